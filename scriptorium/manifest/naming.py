"""What a backup and the objects that belong to it are called."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime

from scriptorium.words import BackupType, Compression

_ARCHIVE = re.compile(r"(full|data|config|kuzu|db)_[0-9]{8}_[0-9]{6}(-[0-9]+)?\.tar(\.gz|\.zst)?(\.age)?")


def new_id() -> str:
    """A backup's id: 12 lower-case hex digits."""
    return secrets.token_hex(6)


def backup_label(type: BackupType, created_at: datetime, database_kind: str | None, tie: int = 0) -> str:
    """``<type>_<YYYYmmdd_HHMMSS>`` in UTC: how a backup is called in its stores; ``tie`` from 2 on stands behind."""
    word = type.value
    if type is BackupType.DATABASE:
        word = "kuzu" if database_kind == "kuzu" else "db"
    again = f"-{tie}" if tie >= 2 else ""
    return f"{word}_{created_at.astimezone(UTC):%Y%m%d_%H%M%S}{again}"


def archive_name(
    type: BackupType, created_at: datetime, compression: Compression, database_kind: str | None, tie: int = 0
) -> str:
    """The label with the ending of an archive: ``.tar.gz``, ``.tar.zst``, ``.tar``."""
    return backup_label(type, created_at, database_kind, tie) + compression.ending


def label_of(name: str) -> str:
    """The label in the name of an archive; what is no such name (a label in a store of another kind) is one itself."""
    return name.partition(".tar")[0]


def database_kind_of(label: str) -> str | None:
    """The kind of database that the label of a ``database`` backup names, as ``backup_label`` takes it."""
    return "kuzu" if label.startswith("kuzu_") else None


def is_archive_name(name: str) -> bool:
    """Whether it is a name that ``archive_name`` gives. What is called otherwise is not ours to sweep up."""
    return _ARCHIVE.fullmatch(name) is not None


def manifest_key(archive_name: str) -> str:
    """Where the manifest of an archive lies: beside it."""
    return archive_name + ".json"


def annotations_key(archive_name: str) -> str:
    """Where what becomes known later (pins, verifications) lies: beside it."""
    return archive_name + ".marks.json"
