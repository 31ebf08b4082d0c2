"""The files of a Kuzu database, in both of its layouts, and which engine reads it.

Since 0.11 a database is one file (``KUZU``, then its storage version as a little-endian uint32) with ``.wal``,
``.shadow`` and perhaps ``.tmp`` beside it; before that it is a folder, whose ``catalog.kz`` carries the same header.
"""

from __future__ import annotations

import contextlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from scriptorium.errors import NotFound, SourceDamaged, ToolMissing, Untrusted
from scriptorium.fs.descriptors import read_file
from scriptorium.fs.places import is_held, real_path

COMPANIONS = (".wal", ".shadow", ".tmp")
_LADYBUG_COMPANION = ".wal.checkpoint"  # Kuzu never makes one; its successor does
_MAGIC, _LADYBUG_MAGIC = b"KUZU", b"LBUG"
_GONE = "correct the source's path in the settings; a database that is gone comes back with: scriptorium restore"
FIRST_SINGLE_FILE = 39
_FIRST_PAGE = 4096
_HIGHEST_CREDIBLE = 1000  # of storage versions: above, the number is damage
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
        """The bytes of all of them; a file that vanishes meanwhile counts as empty."""
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

    Raises ``NotFound``, or ``SourceDamaged`` when what is there is no Kuzu database, ``Untrusted`` for a link that
    leads to what its maker does not own.
    """
    real = path if is_held(path) else real_path(path)
    if real.is_file():
        return Layout(real, folder=False)
    if not real.is_dir():
        raise NotFound("there is no Kuzu database", on=str(path), hint=_GONE)
    layout = Layout(real, folder=True)
    if not layout.header.is_file():
        raise SourceDamaged("this folder is no Kuzu database", on=str(path), hint=_hint_for_folder(real))
    return layout


def _hint_for_folder(folder: Path) -> str:
    """A folder of 0.10 without its catalog is damaged; a folder with databases in it was named by mistake."""
    if any(folder.glob("*.hindex")) or (folder / "data.kz").exists():
        return "its catalog.kz is missing: the database is damaged; restore it from a backup"
    inside = sorted(path.name for path in folder.iterdir() if path.is_file() and _begins(path, _MAGIC, _LADYBUG_MAGIC))
    return f"name the database itself: {inside[0]} in it" if inside else "name the database itself, not its folder"


def _begins(path: Path, *magics: bytes) -> bool:
    with contextlib.suppress(OSError, Untrusted):
        return read_file(path, 4)[0] in magics
    return False


def storage_version(layout: Layout) -> int | None:
    """The storage version in the header; ``None`` for a database that was never checkpointed.

    Raises ``SourceDamaged`` when the header is no database's, ``ToolMissing`` when it is a relative's.
    """
    head, _ = read_file(layout.header, 8)
    if head[:4] == _LADYBUG_MAGIC:
        raise _relative(layout, "its header says LBUG")
    beside = companion(layout.path, _LADYBUG_COMPANION)
    relative = os.path.lexists(beside)
    if len(head) < 8 or not head.strip(b"\0"):
        if relative:  # it has never been checkpointed: its header says nothing yet
            raise _relative(layout, f"{beside.name} lies beside it")
        if not layout.folder and not head:
            raise _damaged(layout, "it is empty")
        if layout.header.stat().st_size > _FIRST_PAGE:
            raise _damaged(layout, "it begins with zeros, and more follows")
        return None
    if head[:4] != _MAGIC:
        raise _damaged(layout, f"it begins with {head[:4].hex(' ')}, a Kuzu database with {_MAGIC.hex(' ')} (KUZU)")
    version = int(struct.unpack("<I", head[4:])[0])
    if not 0 < version < _HIGHEST_CREDIBLE:
        raise _damaged(layout, f"it names storage version {version}, which no engine has")
    if version > max(_RELEASES):
        raise _relative(layout, f"it has storage version {version}, Kuzu's last one is {max(_RELEASES)}")
    if relative:
        raise _relative(layout, f"{beside.name} lies beside it")
    return version


def _relative(layout: Layout, why: str) -> ToolMissing:
    return ToolMissing(
        f"this database belongs to Ladybug, the successor of Kuzu, which is not supported ({why})",
        on=str(layout.path),
        hint="save an export of it: EXPORT DATABASE in the application, and its folder as a source of files",
    )


def _damaged(layout: Layout, why: str) -> SourceDamaged:
    return SourceDamaged(
        f"the header of this Kuzu database is damaged, or this is another file: {why}",
        on=str(layout.header),
        hint="if the source's path is right, the database is damaged: restore it from a backup; `scriptorium list`",
    )


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
