"""The folder that a dump is unpacked into for a restore, and the examination of the dump in it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from scriptorium import process
from scriptorium.errors import DamageFound, RestoreFailed, ToolMissing
from scriptorium.model import Part, Rows
from scriptorium.sources.postgres.connection import Address
from scriptorium.sources.postgres.dump.contents import is_cut_off
from scriptorium.sources.postgres.dump.directory import GLOBALS
from scriptorium.sources.postgres.dump.pieces import JOINED, join
from scriptorium.sources.postgres.dump.snapshot import DumpOptions
from scriptorium.sources.postgres.programs import Program, find
from scriptorium.sources.postgres.restore.examination import Examined, examine_dump, examine_script
from scriptorium.sources.postgres.restore.psql import recognise, require_complete

_TABLE_OF_CONTENTS = "toc.dat"


@dataclass(frozen=True, slots=True)
class Target:
    """The target of a restore. ``address``: of the living database; ``name``: of the database that is restored to;
    ``jobs``: processes of pg_restore; ``records``: the folder of ``records.py``."""

    address: Address
    name: str
    staging: Path
    records: Path
    options: DumpOptions
    jobs: int
    previous: int
    without_roles: bool
    elsewhere: bool
    without_broken: bool = False


class Unpacked:
    """A part whose members are unpacked into a folder: the base of both kinds of restore."""

    answers: Mapping[str, Rows] = MappingProxyType({})

    def __init__(self, part: Part, target: Target, restore_id: str) -> None:
        self._part = part
        self._target = target
        self._restore = restore_id
        self._folder = target.staging / f"scriptorium-restore-{os.geteuid()}-{restore_id}-{part.source}"

    def receive(self, member: str) -> Path | None:
        inside = below(member, self._part.path)
        return None if inside is None else self._folder / "part" / inside

    def _make_folder(self) -> None:
        self._drop_folder()
        self._folder.mkdir(parents=True, mode=0o700)
        (self._folder / "part").mkdir(mode=0o700)

    def _drop_folder(self) -> None:
        if self._folder.is_symlink() or (self._folder.exists() and self._folder.stat().st_uid != os.geteuid()):
            raise RestoreFailed("this folder is not ours", on=str(self._folder), hint="set 'staging' to another folder")
        shutil.rmtree(self._folder, ignore_errors=True)

    def _drop_dump(self) -> None:
        shutil.rmtree(self._folder / "part", ignore_errors=True)

    def _dump(self) -> Path:
        return _joined(self._folder / "part", self._part.path)

    def _examined(self, dump: Path, program: Program | None = None) -> Examined:
        """Examine the dump before any of it runs (``program``: the pg_restore for it): ``UnsafeArchive``. A dump of
        another program must not reach beyond the database. SQL always counts as foreign."""
        made = self._part.provenance
        if program is None:
            return examine_script(dump, foreign=True, trusted=made.trusted)
        examine_dump(dump, program, foreign=made.adopted, trusted=made.trusted)
        return Examined()

    def _program(self, dump: Path, server_major: int) -> Program:
        return restorer_for(dump, server_major, self._target.options.tools)


def below(member: str, at: str) -> str | None:
    """The member's path below ``at``; ``None`` if it is elsewhere."""
    if member == at:
        return ""
    return member[len(at) + 1 :] if member.startswith(f"{at}/") else None


def dump_in(folder: Path, on: str) -> Path:
    """The dump in a folder: a folder with a table of contents, the joined pieces of a streamed dump, or a single file
    (an adopted dump).

    ``RestoreFailed`` if there is none.
    """
    found = [folder] if (folder / _TABLE_OF_CONTENTS).is_file() else []
    found += [path.parent for path in sorted(folder.glob(f"*/{_TABLE_OF_CONTENTS}"))]
    found += sorted(folder.glob(f"*/{JOINED}"))
    found += [path for path in sorted(folder.iterdir()) if path.is_file() and path.name != GLOBALS]
    if not found:
        raise RestoreFailed("the backup contains no database", on=on)
    return found[0]


def _joined(part: Path, on: str) -> Path:
    for folder in part.iterdir():
        if folder.is_dir():
            join(folder)
    return dump_in(part, on)


def examine_unpacked(part: Path, on: str, tools: Path | None) -> None:
    """Examine a dump of unknown origin in the folder of a part: ``UnsafeArchive``."""
    dump = _joined(part, on)
    if is_script(dump):
        examine_script(dump, foreign=True)
    else:
        examine_dump(dump, restorer_for(dump, 0, tools), foreign=True)


def is_script(dump: Path) -> bool:
    """Whether it is SQL, for psql. ``DamageFound`` if it is incomplete, or neither SQL nor a dump."""
    if dump.is_dir() or recognise(dump) != "sql":
        return False
    require_complete(dump)
    return True


def restorer_for(dump: Path, server_major: int, tools: Path | None, *, whole: bool = True) -> Program:
    """The ``pg_restore`` that fits the server and can read the dump, which a newer pg_dump may have written. Not
    ``whole``: ``dump`` is only the beginning of a dump."""
    program = find("pg_restore", server_major, tools=tools)
    while True:
        listed = process.run([program.path, "--list", str(dump)], env={"LC_ALL": "C"}, check=False, timeout=600)
        if listed.status == 0 or (not whole and is_cut_off(listed.stderr)):
            return program
        if "unsupported version" not in listed.stderr:
            raise DamageFound(
                f"the dump cannot be read: {listed.stderr.strip()[-200:]}", on=str(dump), hint="try another copy"
            )
        try:
            program = find("pg_restore", program.version[0] + 1, tools=tools)
        except ToolMissing as error:
            raise DamageFound(
                f"the dump is damaged, or was made by a newer pg_dump than {program} can read",
                on=str(dump),
                hint=error.hint,
            ) from error


def default_staging() -> Path:
    return Path(tempfile.gettempdir())
