"""What a manifest lacks, if the backup was adopted or fingerprints are missing."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from scriptorium.model import Manifest, Part

_NONE: Mapping[str, str] = MappingProxyType({})


def unrecorded(manifest: Manifest) -> tuple[str, ...]:
    """The databases of which nothing is recorded: they can be restored, but not compared with anything."""
    return tuple(part.source for part in manifest.parts if not _recorded(part))


def _recorded(part: Part) -> bool:
    if "" in part.missing_fingerprints:
        return False
    return part.tables is not None or (part.plain_files and not part.provenance.unopened)


def uncompared(part: Part, missing: Mapping[str, str] = _NONE) -> tuple[str, ...]:
    """What of a part's database could not be compared, and why: one line each, the recorded ones first.

    ``missing``: the fingerprints that could not be taken of the restored database, and why.
    """
    reasons = {**missing, **part.missing_fingerprints}
    recorded = sorted(reasons, key=lambda table: (table not in part.missing_fingerprints, table))
    return tuple(f"{part.source}{f', {table}' if table else ''}: {reasons[table]}" for table in recorded)
