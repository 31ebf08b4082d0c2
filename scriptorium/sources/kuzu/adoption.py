"""The Kuzu database in an old archive: it is found, opened as a copy, and kept unchanged if that fails."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from scriptorium.errors import NoSpace, ScriptoriumError, UnsafeArchive
from scriptorium.fs import reflink
from scriptorium.fs.attributes import give, held_open
from scriptorium.manifest import readable
from scriptorium.model import Provenance, Staged, Tree
from scriptorium.sources.kuzu import export as kuzu_export
from scriptorium.sources.kuzu import layout, reader

if TYPE_CHECKING:
    from scriptorium.sources.kuzu.source import KuzuSource

_PLACES = ("data/kuzu", "kuzu", "kuzu_db", "")  # where old archives have it; the last one is the top
_OF_A_FOLDER = re.compile(r"\.(wal|shadow|lock)|.+\.(kz|hindex|ovf|wal|shadow|tmp|lock)")  # Kuzu 0.10 and before


@dataclass(frozen=True, slots=True)
class Database:
    """A database that was moved out of the unpacked files: ``path``, in a folder of its own with its companions."""

    source: KuzuSource
    path: Path
    folder: bool
    warnings: tuple[str, ...] = field(default=())

    def files(self) -> list[Path]:
        place = self.path if self.folder else self.path.parent
        return sorted(place.iterdir())

    def size(self) -> int:
        return sum(path.stat().st_size for path in self.files())

    def staged(self, stage: Path, home: Path, taken: set[str], created_at: datetime, method: str) -> Staged:
        """The database as a part; see ``Adoptable``."""
        try:
            return _opened(self, self.source, stage, created_at, method)
        except NoSpace:
            raise
        except (ScriptoriumError, reader.Unreadable, reader.Unread) as error:
            return _as_it_was(self, self.source, home, taken, created_at, method, _verdict(error))


def take_out(source: KuzuSource, raw: Path, place: Path) -> Database | None:
    """Move the database out of the unpacked files into the new folder ``place``; ``None`` if there is none."""
    name = source.path.name
    place.mkdir(mode=0o700)
    for path, folder in _candidates(raw, name):
        _require_plain(raw, path)
        if folder:
            return _folder_taken(source, path, place / name)
        ends = [end for end in ("", *layout.COMPANIONS) if os.path.lexists(f"{path}{end}")]
        for end in ends:
            _require_plain(raw, Path(f"{path}{end}"))
            Path(f"{path}{end}").rename(place / f"{name}{end}")
        return Database(source, place / name, folder=False, warnings=tuple(_lacks(ends)))
    return None


def _candidates(raw: Path, name: str) -> Iterator[tuple[Path, bool]]:
    """The paths where it may be, the most likely one first, each with whether it is a folder."""
    places = [raw / place for place in _PLACES]
    for place in places:
        if (place / name).is_file():
            yield place / name, False
        for folder in (place / name, place):
            if (folder / "catalog.kz").is_file():
                yield folder, True
    for place in places:
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            if path.is_dir() and (path / "catalog.kz").is_file():
                yield path, True
            elif path.is_file() and path.suffix not in layout.COMPANIONS and _has_magic(path):
                yield path, False


def _has_magic(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"KUZU"


def _require_plain(raw: Path, path: Path) -> None:
    """A symlink is refused: the engine would follow it and write to its target."""
    if Path(os.path.realpath(path)) != Path(os.path.realpath(raw)) / path.relative_to(raw):
        raise UnsafeArchive("the database in the archive is a symlink", on=readable(path.relative_to(raw).as_posix()))


def _folder_taken(source: KuzuSource, folder: Path, target: Path) -> Database:
    target.mkdir(mode=0o755)
    for path in sorted(folder.iterdir()):
        if _OF_A_FOLDER.fullmatch(path.name):
            if path.is_symlink() or not path.is_file():
                raise UnsafeArchive("something else is where a file of the database should be", on=path.name)
            path.rename(target / path.name)
    warnings = []
    if not (target / ".wal").exists():
        warnings.append(
            "the database's .wal is missing (that backup left out hidden files): what was written to it after its "
            "last checkpoint is lost"
        )
    return Database(source, target, folder=True, warnings=tuple(warnings))


def _lacks(ends: list[str]) -> Iterator[str]:
    if ".shadow" in ends:
        yield "the database was copied during a checkpoint (there is a .shadow file)"
    if ".wal" not in ends:
        yield "no .wal came with the database: what was written to it after its last checkpoint, if anything, is lost"


def _opened(database: Database, source: KuzuSource, stage: Path, created_at: datetime, method: str) -> Staged:
    copy, export = stage / "opened" / source.path.name, stage / "export"
    _copied(database, copy)
    fingerprints = reader.read(copy, engine=source.engine, share=source.memory_share, statements=source.statements)
    fingerprints = kuzu_export.with_export(fingerprints, copy, export, engine=source.engine, share=source.memory_share)
    beside = [] if database.folder else [end for end in (".wal", ".shadow") if Path(f"{copy}{end}").exists()]
    trees = [Tree(root=f"{copy}{end}", at=f"{source.place}{end}") for end in ("", *beside)]
    if fingerprints.exported:
        trees.append(Tree(root=str(export), at=source.export_place))
    return Staged(
        source=source.name,
        kind=source.kind,
        path=source.place,
        method=f"{method}; opened and read",
        provenance=Provenance(adopted=True),
        started_at=created_at,
        finished_at=created_at,
        trees=tuple(trees),
        engine_version=fingerprints.engine_version,
        tables=fingerprints.tables,
        export=source.export_place if fingerprints.exported else None,
        export_lacks=fingerprints.export_lacks,
        warnings=(*database.warnings, *fingerprints.warnings),
        answers=fingerprints.answers,
        missing_fingerprints=fingerprints.missing,
    )


def _copied(database: Database, copy: Path) -> None:
    """A copy is opened, because opening changes it. If that fails, the original files are kept."""
    copy.parent.mkdir(mode=0o700)
    target = copy if database.folder else copy.parent
    if database.folder:
        copy.mkdir(mode=0o755)
    for path in database.files():
        with reflink.opened(path) as file:
            reflink.copy(file, target / path.name, path.stat().st_size, lambda _: None)
        with held_open(path) as original, held_open(target / path.name) as made:
            give(original, made)


def _as_it_was(
    database: Database, source: KuzuSource, home: Path, taken: set[str], created_at: datetime, method: str, why: str
) -> Staged:
    """Its files as a part of plain files: ``restore`` restores them, but never over a living database."""
    above = PurePosixPath(source.place).parent.as_posix()
    place = f"{source.place}.files" if above in (".", *taken) else above
    (home / place).mkdir(parents=True, exist_ok=True)
    for path in [database.path] if database.folder else database.files():
        path.rename(home / place / path.name)
    return Staged(
        source=source.name,
        kind="files",
        path=place,
        method=f"{method}; not opened",
        provenance=Provenance(adopted=True, unopened=True),
        started_at=created_at,
        finished_at=created_at,
        trees=(Tree(root=str(home / place), at=place),),
        warnings=(
            *database.warnings,
            f"database could not be opened: {why}: it is kept as it was, without fingerprints of its tables",
        ),
    )


def _verdict(error: ScriptoriumError | reader.Unreadable | reader.Unread) -> str:
    """Why it could not be opened, on one line, with the remedy if there is one."""
    if isinstance(error, ScriptoriumError) and error.hint:
        return f"{error.what} ({error.hint})"
    return error.what if isinstance(error, ScriptoriumError) else str(error)
