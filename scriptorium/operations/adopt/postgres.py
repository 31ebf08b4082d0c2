"""A dump of PostgreSQL, as ``librarian backup`` or ``pg_dump`` itself wrote it: kept as the one file that it is.

Restoring it needs nothing special: the source of kind ``postgres`` loads the custom format and SQL as it loads its own.
"""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, cast

from scriptorium import process
from scriptorium.errors import DamageFound, ToolMissing
from scriptorium.fs import reflink
from scriptorium.manifest import readable
from scriptorium.model import BackupType, Provenance, Staged, Tree
from scriptorium.operations.adopt.file_type import Form
from scriptorium.operations.adopt.metadata import Foreign, described_as, name_of, time_of
from scriptorium.operations.adopt.staging import Staging
from scriptorium.settings import Library
from scriptorium.sources import PostgresSource
from scriptorium.sources.postgres.dump.directory import file_name
from scriptorium.sources.postgres.restore.examination import examine_dump, examine_script
from scriptorium.sources.postgres.restore.psql import require_complete
from scriptorium.sources.postgres.restore.staging import restorer_for
from scriptorium.sources.postgres.toc import CUSTOM, TocReader
from scriptorium.workspace import require_space

_HEAD = 4096
_LONGEST_TEXT = 1024  # bytes of a name in a dump's head
_STARTED = re.compile(r"^-- Started on (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)", re.MULTILINE)
_VERSIONS = re.compile(r"^-- Dumped (from database|by pg_dump) version (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Head:
    """What a dump says of itself: local time as ISO text, names and versions, ``""`` where it says nothing."""

    taken: str
    database: str
    server: str
    program: str


def stage(
    file: Path, form: Form, sha256: str, library: Library, folder: Path, now: datetime, *, trusted: bool = False
) -> Staging:
    """The dump as a part of ``library``, copied below ``folder``.

    Raises ``DamageFound``, ``UnsafeArchive``, ``NoSpace``.
    """
    source = next(source for source in library.sources if isinstance(source, PostgresSource))
    size = file.stat().st_size
    require_space(folder, 2 * size, f"adopting {readable(file.name)}")
    head = head_of(file) if form is Form.DUMP else _script_head(file)
    said = _checked(file, form, source, trusted)
    created, when = time_of(head.taken or None, file, now)
    part = folder / "part"
    part.mkdir(mode=0o700)
    ending = {Form.DUMP: ".dump", Form.SQL: ".sql"}[form] + (".gz" if _is_gzip(file) else "")
    target = part / f"{file_name(head.database or _living_name(source) or name_of(file))}{ending}"
    with reflink.opened(file) as opened:
        reflink.copy(opened, target, size, lambda _: None)
    os.utime(target, ns=(file.stat().st_mtime_ns, file.stat().st_mtime_ns))
    script, program = form is Form.SQL, f"pg_dump {head.program}" if head.program else "pg_dump"
    staged = Staged(
        source=source.name,
        kind=source.kind,
        path=source.place,
        method=f"adopted ({program}, {'SQL' if script else 'custom format'}){'; trusted' if trusted else ''}",
        provenance=Provenance(adopted=True, trusted=trusted, script=script, dumper=head.program),
        started_at=created,
        finished_at=created,
        trees=(Tree(root=str(part), at=source.place),),
        engine_version=head.server or None,
    )
    foreign = Foreign(name_of(file), described_as(file, sha256), created, form.value, when)
    return Staging(foreign, BackupType.DATABASE, (staged,), (*when, *said, *_trust(form, trusted)))


def _trust(form: Form, trusted: bool) -> Iterator[str]:
    yield (
        "a dump is one moment of the database, but this one came without table facts: what is restored from it cannot "
        "be compared with anything"
    )
    if form is Form.SQL:
        yield "SQL is a program: whoever restores it runs it, so its origin must be known"
    if trusted:
        yield "its statements were not judged (--trust): what they reach on the server's machine is not known"


def _living_name(source: PostgresSource) -> str:
    """The name of the library's database, where its settings say it."""
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        return str(conninfo_to_dict(source.database).get("dbname") or "")
    except psycopg.ProgrammingError:
        return ""


def head_of(file: Path) -> Head:
    """The head of a dump in the custom format. ``DamageFound``, ``UnsafeArchive``."""
    with file.open("rb") as stream:
        head = TocReader(stream, file).head()
    if head.format != CUSTOM:
        raise DamageFound("the dump's head is broken", on=str(file), hint="use another copy of it")
    second, minute, hour, day, month, year, _ = head.taken
    taken = f"{year + 1900:04d}-{month + 1:02d}-{day:02d}T{hour:02d}:{minute:02d}:{min(second, 59):02d}"
    database, server, program = (
        readable(text[:_LONGEST_TEXT].decode("utf-8", "surrogateescape"))
        for text in (head.database, head.server, head.program)
    )
    return Head(taken, database, server.split(" ")[0], program.split(" ")[0])


def _script_head(file: Path) -> Head:
    with _opened(file) as stream:
        head = stream.read(_HEAD).decode("utf-8", "replace")
    started = _STARTED.search(head)
    versions = dict(_VERSIONS.findall(head))
    return Head(
        taken=started[1] if started else "",
        database="",
        server=versions.get("from database", ""),
        program=versions.get("by pg_dump", ""),
    )


def _checked(file: Path, form: Form, source: PostgresSource, trusted: bool) -> tuple[str, ...]:
    """Read it to its end, and see what is in it. ``DamageFound``, ``UnsafeArchive``."""
    if form is Form.SQL:
        require_complete(file)
        examine_script(file, foreign=True, trusted=trusted)
        return ()
    try:
        program = restorer_for(file, 0, source.tools)
    except ToolMissing as missing:
        return (f"it was not read to its end ({missing.what}): verify knows only that its bytes stay what they are",)
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
