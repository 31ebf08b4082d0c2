"""How a part was made, and from which file a backup was adopted, as fields of a manifest.

Manifests that were written before these fields have the same in two texts for people, ``method`` and ``description``.
This module is the only one that reads such texts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields

from scriptorium.manifest.record import SHA256, Record
from scriptorium.model import Provenance

_ADOPTED = "adopted"  # such a method begins with this and ends with the others
_TRUSTED = "; trusted"
_UNOPENED = "; not opened"
_STREAMED = ", streamed"
_SCRIPT = (", SQL)", f", SQL){_TRUSTED}")
_DUMPER = re.compile(r"pg_dump (\d+(?:\.\d+)*)")
_ORIGINAL = re.compile(r"adopted from .* \(sha256 ([0-9a-f]{64})\)\Z", re.DOTALL)


def provenance_fields(provenance: Provenance) -> dict[str, object]:
    """The fields for a manifest: those that are not empty."""
    found = ((field.name, getattr(provenance, field.name)) for field in fields(Provenance))
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found if value}


def read_provenance(part: Record) -> Provenance:
    """The provenance of a part of a manifest. ``DamageFound`` for a field of another type."""
    record = part.optional_record("provenance")
    if record is None:
        return _by_method(part.text("method"))
    return Provenance(
        adopted=_flag(record, "adopted"),
        trusted=_flag(record, "trusted"),
        unopened=_flag(record, "unopened"),
        streamed=_flag(record, "streamed"),
        script=_flag(record, "script"),
        dumper=record.optional_text("dumper") or "",
        extensions=record.texts("extensions") if "extensions" in record.raw else (),
    )


def read_original(manifest: Record) -> str:
    """The SHA-256 of the file that a backup was adopted from; empty for all others."""
    if "original_sha256" in manifest.raw:
        return manifest.text("original_sha256", SHA256)
    found = _ORIGINAL.search(manifest.text("description"))
    return found[1] if found and _has_old_parts(manifest.raw) else ""


def _has_old_parts(manifest: Mapping[str, object]) -> bool:
    """Whether the manifest is older than these fields: otherwise its description is the user's own text."""
    parts = manifest.get("parts")
    return isinstance(parts, list) and not any(isinstance(part, dict) and "provenance" in part for part in parts)


def _flag(record: Record, field: str) -> bool:
    return record.flag(field) if field in record.raw else False


def _by_method(method: str) -> Provenance:
    adopted = method.startswith(_ADOPTED)
    dumper = _DUMPER.search(method)
    return Provenance(
        adopted=adopted,
        trusted=adopted and method.endswith(_TRUSTED),
        unopened=method.endswith(_UNOPENED),
        streamed=method.endswith(_STREAMED),
        script=method.endswith(_SCRIPT),
        dumper=dumper[1] if dumper else "",
    )
