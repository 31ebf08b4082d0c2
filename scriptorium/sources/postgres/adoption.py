"""A dump of PostgreSQL that another program made: what its head says, and whether its contents are allowed."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from scriptorium import process
from scriptorium.errors import DamageFound, ToolMissing
from scriptorium.manifest import readable
from scriptorium.sources.optional import ForeignDump
from scriptorium.sources.postgres.dump.contents import require_ends
from scriptorium.sources.postgres.dump.directory import file_name
from scriptorium.sources.postgres.restore.examination import examine_dump, examine_script
from scriptorium.sources.postgres.restore.psql import require_complete
from scriptorium.sources.postgres.restore.staging import restorer_for
from scriptorium.sources.postgres.toc import CUSTOM, TAR, is_tar, read_head

if TYPE_CHECKING:
    from scriptorium.sources.postgres.settings import PostgresSettings

_HEAD = 4096
_LONGEST_TEXT = 1024  # bytes of a name in a dump's head
_STARTED = re.compile(r"^-- Started on (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)", re.MULTILINE)
_VERSIONS = re.compile(r"^-- Dumped (from database|by pg_dump) version (\S+)", re.MULTILINE)


def read_foreign(file: Path, source: PostgresSettings, called: str, *, script: bool, trusted: bool) -> ForeignDump:
    """Read a dump to its end and return what its head says; see ``TakesDumps``."""
    head = _script_head(file) if script else head_of(file)
    warnings = _checked(file, source, script=script, trusted=trusted)
    living = _living_name(source)
    name = head.name or file_name(living or called)
    return replace(head, name=name, ending=_ending(file, script=script), warnings=warnings)


def _ending(file: Path, *, script: bool) -> str:
    if file.is_dir():
        return ""  # as our own dumps are called
    if script:
        return f".sql{'.gz' if _is_gzip(file) else ''}"
    return ".tar" if is_tar(file) else ".dump"


def _living_name(source: PostgresSettings) -> str:
    """The name of the library's database, if its settings contain one."""
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        return str(conninfo_to_dict(source.database).get("dbname") or "")
    except psycopg.ProgrammingError:
        return ""


def head_of(file: Path) -> ForeignDump:
    """The head of a dump in the custom, tar or directory format. ``DamageFound``, ``UnsafeArchive``."""
    head = read_head(file)
    if not file.is_dir() and (head.format == TAR) != is_tar(file):
        raise DamageFound(
            "this is the table of contents of a dump, without the rest of it",
            on=str(file),
            hint="name the folder that pg_dump wrote",
        )
    second, minute, hour, day, month, year, _ = head.taken
    taken = f"{year + 1900:04d}-{month + 1:02d}-{day:02d}T{hour:02d}:{minute:02d}:{min(second, 59):02d}"
    database, server, program = (
        readable(text[:_LONGEST_TEXT].decode("utf-8", "surrogateescape"))
        for text in (head.database, head.server, head.program)
    )
    format = "directory format" if file.is_dir() else "custom format" if head.format == CUSTOM else "tar format"
    name = file_name(database) if database else ""
    return ForeignDump(taken, name, server.split(" ")[0], program.split(" ")[0], format)


def _script_head(file: Path) -> ForeignDump:
    with _opened(file) as stream:
        head = stream.read(_HEAD).decode("utf-8", "replace")
    started = _STARTED.search(head)
    versions = dict(_VERSIONS.findall(head))
    return ForeignDump(
        taken=started[1] if started else "",
        name="",
        server=versions.get("from database", ""),
        program=versions.get("by pg_dump", ""),
        format="SQL",
    )


def _checked(file: Path, source: PostgresSettings, *, script: bool, trusted: bool) -> tuple[str, ...]:
    """Read the dump to its end and examine its contents; returns warnings. ``DamageFound``, ``UnsafeArchive``."""
    if script:
        require_complete(file)
        examine_script(file, foreign=True, trusted=trusted)
        return ()
    try:
        program = restorer_for(file, 0, source.tools)
    except ToolMissing as missing:
        return (f"it was not read to its end ({missing.what}): verify can only tell whether its bytes have changed",)
    require_ends(file)
    examine_dump(file, program, foreign=True, trusted=trusted)
    outcome = process.run([program.path, "--file=/dev/null", str(file)], check=False)
    if outcome.status != 0:
        raise DamageFound(
            f"the dump cannot be read to its end: {outcome.stderr.strip()[-200:]}",
            on=str(file),
            hint="use another copy of it",
        )
    return ()


def _is_gzip(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    if not _is_gzip(file):
        with file.open("rb") as plain:
            yield plain
        return
    try:
        with gzip.open(file, "rb") as stream:
            yield cast(BinaryIO, stream)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DamageFound(f"the file cannot be read to its end: {error}", on=str(file)) from None
