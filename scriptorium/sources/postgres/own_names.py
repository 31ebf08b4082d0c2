"""A dump that is restored with the database's own ``search_path``, for objects that name others without their schema.

``pg_dump`` writes a statement into its dumps that empties ``search_path``, and ``pg_restore`` runs it on each of its
connections. Functions that name other objects without a schema work in their application, but fail in such a session.
In a second try the statement is replaced by one of the same length that resets ``search_path`` to the value at the
start of the session. It is replaced in what pg_restore reads, not in the dump.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scriptorium.sources.postgres.connection import Row, quoted
from scriptorium.sources.postgres.toc import UnknownLayout, toc_length

if TYPE_CHECKING:
    import psycopg

_EMPTY_PATH = b"SELECT pg_catalog.set_config('search_path', '', false);"
_RESET_PATH = b"RESET search_path;".ljust(len(_EMPTY_PATH))  # of the same length: the dump contains the length
_BLOCK = 1 << 20
_TABLE_OF_CONTENTS = "toc.dat"
_OWN = """
SELECT coalesce(
    (SELECT word FROM settings WHERE whose = 1), (SELECT word FROM settings WHERE whose = 2),
    (SELECT word FROM settings WHERE whose = 3), '"$user", public')
"""
_SETTINGS = """
WITH database AS (SELECT oid, datdba FROM pg_database WHERE datname = current_database()),
settings AS (
    SELECT CASE WHEN s.setdatabase <> 0 AND s.setrole <> 0 THEN 1 WHEN s.setdatabase <> 0 THEN 2 ELSE 3 END AS whose,
        substr(one, 13) AS word
    FROM pg_db_role_setting s, database d, unnest(s.setconfig) AS one
    WHERE s.setdatabase IN (0, d.oid) AND s.setrole IN (0, d.datdba) AND starts_with(one, 'search_path='))
"""


def own_path(session: psycopg.Connection[Row]) -> str:
    """The ``search_path`` of the database's owner, followed by all other schemas, which other roles may use."""
    row = session.execute((_SETTINGS + _OWN).encode()).fetchone()
    owner = session.execute(
        "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = current_database()"
    ).fetchone()
    own = str(row[0] if row else "").replace('"$user"', quoted(str(owner[0] if owner else "")))
    others = session.execute(
        "SELECT nspname::text FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' "
        "AND has_schema_privilege(oid, 'USAGE') ORDER BY nspname = 'public' DESC, nspname"
    ).fetchall()
    return ", ".join([*([own] if own.strip() else []), *(quoted(str(name)) for (name,) in others)])


@contextlib.contextmanager
def keeping_search_path(
    dump: Path, otherwise: Sequence[tuple[bytes, bytes]] = ()
) -> Iterator[tuple[list[str], int | None]]:
    """The dump as pg_restore has to read it: its last arguments, and its standard input (``None``: nothing).
    ``otherwise``: further statements, each with its replacement of the same length."""
    changed = ((_EMPTY_PATH, _RESET_PATH), *otherwise)
    if not dump.is_dir():
        with _piped(dump, changed) as reading:
            yield [], reading
        return
    beside = dump.parent if os.access(dump.parent, os.W_OK) else None  # links need the same filesystem
    with tempfile.TemporaryDirectory(prefix=".scriptorium-", dir=beside) as folder:
        for file in dump.iterdir():
            if file.name != _TABLE_OF_CONTENTS:
                _link(file, Path(folder, file.name))
        Path(folder, _TABLE_OF_CONTENTS).write_bytes(_replaced((dump / _TABLE_OF_CONTENTS).read_bytes(), changed))
        yield [folder], None


def _link(file: Path, at: Path) -> None:
    try:
        at.hardlink_to(file)
    except OSError:  # another filesystem, or one without links
        shutil.copyfile(file, at)


def _replaced(contents: bytes, changed: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The contents with every change. A statement may be missing: older programs did not empty ``search_path``."""
    for statement, instead in changed:
        contents = contents.replace(statement, instead, 1)
    return contents


@contextlib.contextmanager
def _piped(dump: Path, changed: Sequence[tuple[bytes, bytes]]) -> Iterator[int]:
    reading, writing = os.pipe()
    try:
        length = toc_length(dump)
    except UnknownLayout:
        length = _BLOCK  # what a newer program wrote: its first statements are near its beginning

    def copy() -> None:
        with contextlib.suppress(BrokenPipeError), os.fdopen(writing, "wb") as pipe, dump.open("rb") as file:
            pipe.write(_replaced(file.read(length), changed))
            shutil.copyfileobj(file, pipe, _BLOCK)

    thread = threading.Thread(target=copy, daemon=True, name="piping a dump")
    thread.start()
    try:
        yield reading
    finally:
        os.close(reading)
        thread.join(timeout=60)
