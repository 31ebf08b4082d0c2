"""One member of an archive as one line of JSON, and lists of them.

Paths that are not UTF-8 are written twice: ``path`` is for people, ``path_base64`` holds the bytes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping

from scriptorium.manifest.record import SHA256, Record, compact, parsed, readable
from scriptorium.model import FileEntry, FileList

KINDS = ("file", "folder", "symlink", "hardlink")

_MTIME = re.compile(r"(-?)(\d+)\.(\d{9})\Z", re.ASCII)
_MODE = re.compile(r"[0-7]{4,6}\Z")


def entry_line(entry: FileEntry) -> bytes:
    """One member as one line of canonical JSON, ending in a newline."""
    record: dict[str, object] = {
        "path": entry.path,
        "kind": entry.kind,
        "size": entry.size,
        "mode": f"{entry.mode:04o}",
        "mtime": decimal_seconds(entry.mtime_ns),
    }
    if entry.sha256 is not None:
        record["sha256"] = entry.sha256
    if entry.target is not None:
        record["target"] = entry.target
    try:
        return (compact(record) + "\n").encode()
    except UnicodeEncodeError:
        return (compact(with_raw_bytes(record, "path", "target")) + "\n").encode()


def decimal_seconds(nanoseconds: int) -> str:
    """Nanoseconds since 1970 as decimal seconds with nine places, exact and signed (the form of tar's pax headers)."""
    whole, rest = divmod(abs(nanoseconds), 1_000_000_000)
    return f"{'-' if nanoseconds < 0 else ''}{whole}.{rest:09d}"


def with_raw_bytes(record: Mapping[str, object], *fields: str) -> dict[str, object]:
    """The record, each named text that is not UTF-8 made readable and followed by its bytes in base64."""
    result: dict[str, object] = {}
    for key, value in record.items():
        result[key] = value
        if key in fields and isinstance(value, str) and not _is_utf8(value):
            result[key] = readable(value)
            result[f"{key}_base64"] = base64.b64encode(value.encode("utf-8", "surrogateescape")).decode()
    return result


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def listed(files: FileList) -> bytes:
    if files.entries is None:
        return compact({"member": files.member, "count": files.count, "sha256": files.sha256}).encode()
    if not files.entries:
        return b"[]"
    return b"[\n    " + b",\n    ".join(entry_line(entry)[:-1] for entry in files.entries) + b"\n  ]"


def parse_entry_line(line: bytes) -> FileEntry:
    """The member that a line of ``entry_line`` describes. Raises ``DamageFound``."""
    return entry_of(Record(parsed(line, "file list"), "file list"))


def file_list(entries: Iterable[FileEntry]) -> FileList:
    """An inline list of these members."""
    kept = tuple(entries)
    digest = hashlib.sha256()
    for entry in kept:
        digest.update(entry_line(entry))
    return FileList(len(kept), digest.hexdigest(), kept)


def read_files(record: Record) -> FileList:
    if isinstance(record.raw.get("files"), dict):
        pointer = record.record("files")
        return FileList(pointer.number("count"), pointer.text("sha256", SHA256), None, pointer.text("member"))
    return file_list(entry_of(Record(item, "file list")) for item in record.listed("files"))


def entry_of(record: Record) -> FileEntry:
    """The member that a record describes; it may have more fields."""
    kind = record.text("kind")
    mtime = _MTIME.match(record.text("mtime"))
    if kind not in KINDS or mtime is None:
        raise record.wrong("mtime" if kind in KINDS else "kind")
    nanoseconds = int(mtime[2]) * 1_000_000_000 + int(mtime[3])
    return FileEntry(
        path=record.path("path"),
        kind=kind,
        size=record.number("size"),
        mode=int(record.text("mode", _MODE), 8),
        mtime_ns=-nanoseconds if mtime[1] else nanoseconds,
        sha256=record.text("sha256", SHA256) if "sha256" in record.raw else None,
        target=record.optional_path("target"),
    )
