"""The manifest and the annotations as sealed JSON, written and read.

``loads`` reads every version ever written: a new version gets its own reader in ``_READERS``, and none is removed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from scriptorium.errors import DamageFound, ToolMissing
from scriptorium.manifest.entries import listed, read_files, with_raw_bytes
from scriptorium.manifest.provenance import provenance_fields, read_original, read_provenance
from scriptorium.manifest.record import SHA256, Record, instant, sealed, unsealed
from scriptorium.model import (
    Annotations,
    ArchiveRecord,
    Check,
    EntryPoint,
    Manifest,
    Part,
    Proof,
    TableFingerprint,
    Unsaved,
    Verification,
)
from scriptorium.words import BackupType, Compression, Tier

VERSION = 1

_ID = re.compile(r"[0-9a-f]{12}\Z")
_POINT = re.compile(r"([0-9]{1,18}) ([0-9]{1,18}) ([0-9]{1,18})", re.ASCII)
_TOP = 1 << 16  # bytes of a manifest in which its id and name stand
_ID_LINE = re.compile(rb'^  "id": "([0-9a-f]{12})",$', re.MULTILINE)
_NAME_LINE = re.compile(rb'^  "name": "([^"\\]{1,200})",$', re.MULTILINE)


def dumps(manifest: Manifest) -> bytes:
    """The manifest as sealed JSON."""
    archive = manifest.archive
    fields: dict[str, object] = {
        "version": manifest.version,
        "id": manifest.id,
        "library": manifest.library,
        "preset": manifest.preset,
        "type": manifest.type.value,
        "tier": manifest.tier.value,
        "name": manifest.name,
        "description": manifest.description,
        "created_at": instant(manifest.created_at),
        "finished_at": instant(manifest.finished_at),
        "host": manifest.host,
        "scriptorium_version": manifest.scriptorium_version,
        "tools": dict(sorted(manifest.tools.items())),
        "parts": [_part(part) for part in manifest.parts],
        "warnings": list(manifest.warnings),
    }
    if manifest.unsaved:
        fields["unsaved"] = [_unsaved(one) for one in manifest.unsaved]
    if manifest.original_sha256:
        fields["original_sha256"] = manifest.original_sha256
    if manifest.checks:
        fields["checks"] = [_check(check) for check in manifest.checks]
    if archive is not None:
        fields["archive"] = _archive(archive)
    return sealed(fields, b'  "files": ' + listed(manifest.files))


def _archive(archive: ArchiveRecord) -> dict[str, object]:
    record: dict[str, object] = {
        "name": archive.name,
        "bytes": archive.bytes,
        "sha256": archive.sha256,
        "compression": archive.compression.value,
        "encryption": archive.encryption,
    }
    if archive.index:
        record["index"] = [f"{one.member} {one.offset} {one.at}" for one in archive.index]
    return record


def dumps_annotations(annotations: Annotations) -> bytes:
    """The annotations as sealed JSON."""
    found = annotations.verification
    verification = found and {
        "at": instant(found.at),
        "sound": found.sound,
        "damage": list(found.damage),
        "seconds": found.seconds,
        **({"unopened": found.unopened} if found.unopened else {}),
    }
    fields: dict[str, object] = {"version": VERSION, "pinned": annotations.pinned, "verification": verification}
    if annotations.proof is not None:
        fields["proof"] = _proof(annotations.proof)
    return sealed(fields)


def _proof(proof: Proof) -> dict[str, object]:
    record: dict[str, object] = {
        "at": instant(proof.at),
        "store": proof.store,
        "proven": proof.proven,
        "seconds": proof.seconds,
        "age_seconds": proof.age_seconds,
        "files": proof.files,
        "bytes": proof.bytes,
        "tables": proof.tables,
        "rows": proof.rows,
        "checks": [_check(check) for check in proof.checks],
        "differences": list(proof.differences),
    }
    if proof.uncompared:
        record["uncompared"] = list(proof.uncompared)
    if proof.before:
        record["before"] = list(proof.before)
    return record


def _check(check: Check) -> dict[str, object]:
    return {"name": check.name, "good": check.good, "count": check.count, "first": list(check.first)}


def _unsaved(one: Unsaved) -> dict[str, object]:
    return with_raw_bytes({"source": one.source, "path": one.path, "reason": one.reason}, "path")


def _part(part: Part) -> dict[str, object]:
    record: dict[str, object] = {
        "source": part.source,
        "kind": part.kind,
        "path": part.path,
        "bytes": part.bytes,
        "files": part.files,
        "started_at": instant(part.started_at),
        "finished_at": instant(part.finished_at),
        "method": part.method,
        "provenance": provenance_fields(part.provenance),
    }
    if part.engine_version is not None:
        record["engine_version"] = part.engine_version
    if part.tables is not None:
        record["tables"] = {
            name: {"rows": table.rows, "fingerprint": table.fingerprint} for name, table in sorted(part.tables.items())
        }
    if part.export_lacks:
        record["export_lacks"] = list(part.export_lacks)
    if part.missing_fingerprints:
        record["missing_facts"] = dict(sorted(part.missing_fingerprints.items()))
    if part.export is not None:
        record["export"] = part.export
    if part.unsaved_count:
        record["unsaved_count"] = part.unsaved_count
    if part.holes:
        record["holes"] = part.holes
    return with_raw_bytes(record, "path", "export")


class DamagedManifest(DamageFound):
    """A manifest that cannot be trusted. ``id`` and ``name``: what it still says, to find it by; nothing else of it
    counts."""

    def __init__(self, damage: DamageFound, data: bytes) -> None:
        super().__init__(damage.what, on=damage.on, hint=damage.hint)
        self.id, self.name = (_value(pattern, data) for pattern in (_ID_LINE, _NAME_LINE))


def _value(pattern: re.Pattern[bytes], data: bytes) -> str:
    found = pattern.search(data[:_TOP])
    return found[1].decode("utf-8", "replace") if found else ""


def loads(data: bytes) -> Manifest:
    """Read a manifest of any version.

    Raises ``DamagedManifest`` when it is not whole or not what was written; ``ToolMissing`` when a newer program wrote
    it.
    """
    try:
        record = _known(data, "manifest")
        return _READERS[record.number("version")](record)
    except DamageFound as damage:
        raise DamagedManifest(damage, data) from damage


def loads_annotations(data: bytes) -> Annotations:
    """Read annotations; raises like ``loads``."""
    record = _known(data, "marks")
    found, proof = record.optional_record("verification"), record.optional_record("proof")
    return Annotations(
        pinned=record.flag("pinned"),
        verification=None if found is None else _read_verification(found),
        proof=None if proof is None else _read_proof(proof),
    )


def _read_verification(record: Record) -> Verification:
    return Verification(
        record.instant("at"),
        record.flag("sound"),
        record.texts("damage"),
        record.seconds("seconds"),
        record.optional_text("unopened") or "",
    )


def _read_proof(record: Record) -> Proof:
    return Proof(
        at=record.instant("at"),
        store=record.text("store"),
        proven=record.flag("proven"),
        seconds=record.seconds("seconds"),
        age_seconds=record.seconds("age_seconds"),
        files=record.number("files"),
        bytes=record.number("bytes"),
        tables=record.number("tables"),
        rows=record.number("rows"),
        checks=_read_checks(record),
        differences=record.texts("differences"),
        uncompared=record.texts("uncompared") if "uncompared" in record.raw else (),
        before=record.texts("before") if "before" in record.raw else (),
    )


def _read_checks(record: Record) -> tuple[Check, ...]:
    if "checks" not in record.raw:
        return ()
    items = [Record(item, f"{record.subject}: check") for item in record.listed("checks")]
    return tuple(Check(one.text("name"), one.flag("good"), one.number("count"), one.texts("first")) for one in items)


def _known(data: bytes, subject: str) -> Record:
    record = unsealed(data, subject)
    version = record.number("version")
    if version not in _READERS:
        raise ToolMissing(
            f"the {subject} has version {version}, this program knows up to {VERSION}",
            hint="it needs a newer scriptorium",
        )
    return record


def _version_1(record: Record) -> Manifest:
    archive = record.optional_record("archive")
    unsaved = _read_unsaved(record)
    return Manifest(
        id=record.text("id", _ID),
        library=record.text("library"),
        preset=record.optional_text("preset"),
        type=record.word("type", BackupType),
        tier=record.word("tier", Tier),
        name=record.text("name"),
        description=record.text("description"),
        created_at=record.instant("created_at"),
        finished_at=record.instant("finished_at"),
        host=record.text("host"),
        scriptorium_version=record.text("scriptorium_version"),
        tools={name: record.record("tools").text(name) for name in record.record("tools").raw},
        parts=tuple(_read_part(Record(item, "part"), unsaved) for item in record.listed("parts")),
        files=read_files(record),
        archive=None if archive is None else _read_archive(archive),
        warnings=record.texts("warnings"),
        checks=_read_checks(record),
        version=1,
        original_sha256=read_original(record),
    )


_READERS: Mapping[int, Callable[[Record], Manifest]] = {1: _version_1}


def _read_unsaved(record: Record) -> tuple[Unsaved, ...]:
    if "unsaved" not in record.raw:
        return ()
    items = [Record(item, "unsaved") for item in record.listed("unsaved")]
    return tuple(Unsaved(one.text("source"), one.path("path"), one.text("reason")) for one in items)


def _read_part(record: Record, unsaved: Sequence[Unsaved]) -> Part:
    tables, missing = record.optional_record("tables"), record.optional_record("missing_facts")
    source = record.text("source")
    return Part(
        source=source,
        kind=record.text("kind"),
        path=record.path("path"),
        bytes=record.number("bytes"),
        files=record.number("files"),
        started_at=record.instant("started_at"),
        finished_at=record.instant("finished_at"),
        method=record.text("method"),
        engine_version=record.optional_text("engine_version"),
        tables=None
        if tables is None
        else {
            name: TableFingerprint(tables.record(name).number("rows"), tables.record(name).text("fingerprint"))
            for name in tables.raw
        },
        export=record.optional_path("export"),
        export_lacks=record.texts("export_lacks") if "export_lacks" in record.raw else (),
        missing_fingerprints={} if missing is None else {name: missing.text(name) for name in missing.raw},
        unsaved=tuple(one for one in unsaved if one.source == source),
        unsaved_count=record.number("unsaved_count") if "unsaved_count" in record.raw else 0,
        holes=record.number("holes") if "holes" in record.raw else 0,
        provenance=read_provenance(record),
    )


def _read_archive(record: Record) -> ArchiveRecord:
    return ArchiveRecord(
        name=record.text("name"),
        bytes=record.number("bytes"),
        sha256=record.text("sha256", SHA256),
        compression=record.word("compression", Compression),
        encryption=record.optional_text("encryption"),
        index=_read_index(record) if "index" in record.raw else (),
    )


def _read_index(record: Record) -> tuple[EntryPoint, ...]:
    """Damage if the places do not follow each other: a reader relies on that."""
    lines = [_POINT.fullmatch(line) for line in record.texts("index")]
    points = tuple(EntryPoint(*map(int, line.groups())) for line in lines if line is not None)
    fields = [(one.member, one.offset, one.at) for one in points]
    if len(points) < len(lines) or any(sorted(column) != list(column) for column in zip(*fields, strict=True)):
        raise record.wrong("index")
    return points
