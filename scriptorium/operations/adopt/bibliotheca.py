"""An archive of one of Bibliotheca's own backups, converted into the parts of a backup of ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from scriptorium.errors import PermanentError
from scriptorium.fs.walking import walk
from scriptorium.manifest import readable
from scriptorium.model import Provenance, Staged, Tree
from scriptorium.operations.adopt import tar as tar_module
from scriptorium.operations.adopt import zip as zip_module
from scriptorium.operations.adopt.file_type import Form
from scriptorium.operations.adopt.inventory import Inventory
from scriptorium.operations.adopt.metadata import Foreign, described
from scriptorium.operations.adopt.relocation import Sorted, sort
from scriptorium.operations.adopt.staging import Staging, type_of
from scriptorium.settings import Library
from scriptorium.sources.abilities import adopting, file_tree, living_path
from scriptorium.sources.optional import Adoptable, FileTree
from scriptorium.workspace import require_space

_RUNNING = (
    "taken by Bibliotheca's own backup while it was running: it may not be one consistent state, and a table may lack "
    "rows although it can be read"
)
_LEFT_OUT = {
    Form.ZIP: "that backup contains only the database, covers, uploads and three settings files",
    Form.TAR: "that backup left out hidden files and every path with 'backup', 'session' or 'cache' in it",
}
_IN_PLACE = "a restore in place restores these files and does not touch the library's other files"


def stage(file: Path, form: Form, sha256: str, library: Library, folder: Path, now: datetime) -> Staging:
    """Unpack a zip or a tar below ``folder``, sort its files into the parts of ``library``, open its database.

    Raises ``UnsafeArchive``, ``DamageFound``, ``NoSpace``, ``ToolMissing``, and ``PermanentError`` if nothing in it
    belongs to such a library.
    """
    inventory = zip_module.read_inventory(file) if form is Form.ZIP else tar_module.read_inventory(file)
    require_space(folder, 2 * inventory.size, f"adopting {readable(file.name)} (unpacked, and the new archive)")
    foreign = described(file, sha256, inventory.metadata, now)
    notes, raw = _unpacked(file, form, inventory, folder), folder / "raw"
    able = next((one for source in library.sources if (one := adopting(source)) is not None), None)
    database = able.take_out(raw, folder / "database") if able is not None else None
    files = [tree for source in library.sources if (tree := file_tree(source)) is not None]
    sorted_out = sort(raw, folder / "home", files)
    if form is Form.ZIP:
        _like_the_living(library, folder)
    method = f"adopted ({form.value}{f', {foreign.kind}' if foreign.kind else ''})"
    parts = _trees(sorted_out, files, foreign, method)
    if database is not None:
        require_space(folder, database.size() * 5 // 4, "opening the database")
        taken = {part.path for part in parts}
        home, created = sorted_out.home, foreign.created_at
        parts.insert(0, database.staged(folder, home, taken, created, method))
    if not parts:
        raise PermanentError(
            "nothing in it belongs to a library of this kind",
            on=str(file),
            hint=f"{inventory.files:,} files, none of them a database, a cover, an upload or a configuration file",
        )
    warnings = (
        *foreign.warnings,
        *inventory.warnings,
        *notes,
        *sorted_out.warnings(),
        *_trust(form, database, bool(sorted_out.parts)),
    )
    return Staging(foreign, type_of(parts, library), tuple(parts), warnings)


def _unpacked(file: Path, form: Form, inventory: Inventory, folder: Path) -> tuple[str, ...]:
    raw = folder / "raw"
    raw.mkdir(mode=0o700)
    if form is Form.TAR:
        return tar_module.unpack(file, raw, inventory)
    return zip_module.unpack(file, raw, inventory)


def _trees(sorted_out: Sorted, files: list[FileTree], foreign: Foreign, method: str) -> list[Staged]:
    return [
        Staged(
            source=source.name,
            kind=source.kind,
            path=source.place,
            method=method,
            provenance=Provenance(adopted=True),
            started_at=foreign.created_at,
            finished_at=foreign.created_at,
            trees=(_tree(sorted_out.home, source),),
        )
        for source in files
        if source.name in sorted_out.parts
    ]


def _tree(home: Path, source: FileTree) -> Tree:
    """The tree of a part. A part at the top shares its folder with the others, so its patterns choose its files."""
    root = home / source.place if source.place else home
    return Tree(root=str(root), at=source.place, include=() if source.place else source.include)


def _trust(form: Form, database: Adoptable | None, with_files: bool) -> Iterator[str]:
    """How far the content can be relied on."""
    if database is None:
        yield "it contains no database"
    else:
        yield _RUNNING
    if with_files:
        yield f"{_LEFT_OUT[form]}: {_IN_PLACE}"


def _like_the_living(library: Library, folder: Path) -> None:
    """Give the files of a zip the owner of the library: a zip records no owners, and the application must read them."""
    if os.geteuid() != 0:
        return
    place = next((path for one in library.sources if adopting(one) and (path := living_path(one))), folder)
    while not place.exists():
        place = place.parent
    owner = place.stat()
    for top in (folder / "home", folder / "database"):
        for found in walk(top):
            for name in (*found.folders, *found.others):
                os.chown(name, owner.st_uid, owner.st_gid, dir_fd=found.descriptor, follow_symlinks=False)
