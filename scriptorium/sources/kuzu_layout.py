"""Where a Kuzu database keeps what, in both of its layouts, and which engine reads it.

Since 0.11 a database is one file (``KUZU``, then its storage version as a little-endian uint32) with ``.wal``,
``.shadow`` and perhaps ``.tmp`` beside it; before that it is a folder, whose ``catalog.kz`` carries the same header.
"""

from __future__ import annotations

import contextlib
import struct
from dataclasses import dataclass
from pathlib import Path

from scriptorium.errors import NotFound, SourceDamaged, ToolMissing

COMPANIONS = (".wal", ".shadow", ".tmp")
FIRST_SINGLE_FILE = 39
_RELEASES = {34: "0.7.1", 36: "0.8.2", 37: "0.9.0", 38: "0.10.0", 39: "0.11.3"}


@dataclass(frozen=True, slots=True)
class Layout:
    """A living database: its path, and whether it is a folder (Kuzu 0.10 and before)."""

    path: Path
    folder: bool

    @property
    def wal(self) -> Path:
        return self.path / ".wal" if self.folder else companion(self.path, ".wal")

    @property
    def shadow(self) -> Path:
        return self.path / ".shadow" if self.folder else companion(self.path, ".shadow")

    @property
    def locked(self) -> Path:
        """The file that an engine locks while it has the database open."""
        return self.path / ".lock" if self.folder else self.path

    @property
    def header(self) -> Path:
        return self.path / "catalog.kz" if self.folder else self.path

    def files(self) -> list[Path]:
        """Every file of the database that is there, companions included."""
        if self.folder:
            return sorted(path for path in self.path.iterdir() if path.is_file())
        return [path for path in (self.path, *(companion(self.path, end) for end in COMPANIONS)) if path.is_file()]

    def size(self) -> int:
        """Bytes in all of them; what vanishes while it is asked about counts as nothing."""
        total = 0
        for path in self.files():
            with contextlib.suppress(FileNotFoundError):
                total += path.stat().st_size
        return total


def companion(path: Path, ending: str) -> Path:
    """The file beside the database whose name is the database's with ``ending``."""
    return path.with_name(path.name + ending)


def find(path: Path) -> Layout:
    """The layout of the database at ``path``, symlinks resolved (the engine's WAL lies beside the real file).

    Raises ``NotFound``, or ``SourceDamaged`` when what is there is no Kuzu database.
    """
    real = path.resolve()
    if real.is_file():
        return Layout(real, folder=False)
    if not real.is_dir():
        raise NotFound("there is no Kuzu database", on=str(path), hint="correct the source's path in the settings")
    layout = Layout(real, folder=True)
    if not layout.header.is_file():
        raise SourceDamaged(
            "this folder is no Kuzu database", on=str(path), hint="name the database itself, not its folder"
        )
    return layout


def storage_version(layout: Layout) -> int | None:
    """The storage version in the header; ``None`` for a database that was never checkpointed.

    Raises ``SourceDamaged`` when the header is another file's.
    """
    with layout.header.open("rb") as file:
        head = file.read(8)
    if len(head) < 8 or not head.strip(b"\0"):
        return None
    if head[:4] != b"KUZU":
        raise SourceDamaged(
            "this is no Kuzu database", on=str(layout.path), hint="correct the source's path in the settings"
        )
    return int(struct.unpack("<I", head[4:])[0])


def same_storage(engine: str, other: str) -> bool | None:
    """Whether two versions of Kuzu write one storage version: it goes by their first two numbers. ``None``: a version
    that is not known here."""
    first, second = (_series(version) for version in (engine, other))
    if first == second:
        return True
    known = {_series(release) for release in _RELEASES.values()}
    return False if {first, second} <= known else None


def _series(version: str) -> str:
    return ".".join(version.split(".")[:2])


def wrong_engine(path: Path, found: int, engine: str, engine_version: int) -> ToolMissing:
    """The error for a database of another storage version than the engine's, with the way out."""
    release = _RELEASES.get(found)
    if release:
        hint = f'pip install --target DIR kuzu=={release}, then engine = "DIR" in this source\'s settings'
    else:
        hint = (
            'install the engine of that version: pip install --target DIR kuzu==…, then engine = "DIR" in the settings'
        )
    return ToolMissing(
        f"the database has storage version {found}, kuzu {engine} reads version {engine_version}",
        on=str(path),
        hint=hint,
    )
