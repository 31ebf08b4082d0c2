"""A database as SQL: recognised by its first bytes, complete if it has its last line, run by ``psql``."""

from __future__ import annotations

import gzip
import logging
import os
import secrets
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from scriptorium import process
from scriptorium.errors import DamageFound, NotFound, UsageError
from scriptorium.progress import Advance
from scriptorium.sources.postgres.connection import PLAIN_PROGRAM, Address, Row, quoted
from scriptorium.sources.postgres.errors import translated
from scriptorium.sources.postgres.programs import Program, find
from scriptorium.sources.postgres.restore.examination import Examined
from scriptorium.sources.postgres.stall_watch import StallWatch, Transfer

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger(__name__)

_COMPLETE = b"PostgreSQL database dump complete"
_TAIL = 4096
_BLOCK = 1 << 20
# A pg_dump of 17 or newer writes this at the top, and an older server does not know it.
_TOO_NEW = b"\nSET transaction_timeout = 0;\n"
_RESTRICTED = {13: (13, 22), 14: (14, 19), 15: (15, 14), 16: (16, 10), 17: (17, 6)}
_SCHEMAS = """
SELECT nspname::text FROM pg_namespace n WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_namespace'::regclass AND d.objid = n.oid AND d.deptype = 'e')
ORDER BY nspname COLLATE "C"
"""
# Objects of a dump that are in no schema, if this role may drop them. Those of an extension are dropped with it.
_OUTSIDE = """DO $outside$
DECLARE one record;
BEGIN FOR one IN
    SELECT 'EVENT TRIGGER' AS word, quote_ident(evtname) AS named, 'pg_event_trigger'::regclass AS kind, oid
    FROM pg_event_trigger WHERE pg_has_role(evtowner, 'USAGE')
    UNION ALL SELECT 'PUBLICATION', quote_ident(pubname), 'pg_publication'::regclass, oid
    FROM pg_publication WHERE pg_has_role(pubowner, 'USAGE')
    UNION ALL SELECT 'SERVER', quote_ident(srvname), 'pg_foreign_server'::regclass, oid
    FROM pg_foreign_server WHERE pg_has_role(srvowner, 'USAGE')
    UNION ALL SELECT 'FOREIGN DATA WRAPPER', quote_ident(fdwname), 'pg_foreign_data_wrapper'::regclass, oid
    FROM pg_foreign_data_wrapper WHERE pg_has_role(fdwowner, 'USAGE')
    UNION ALL SELECT 'LANGUAGE', quote_ident(lanname), 'pg_language'::regclass, oid
    FROM pg_language WHERE pg_has_role(lanowner, 'USAGE')
    UNION ALL SELECT 'CAST', '(' || castsource::regtype || ' AS ' || casttarget::regtype || ')', 'pg_cast'::regclass,
        c.oid FROM pg_cast c JOIN pg_type t ON t.oid = c.castsource WHERE pg_has_role(t.typowner, 'USAGE')
    UNION ALL SELECT 'ACCESS METHOD', quote_ident(amname), 'pg_am'::regclass, a.oid
    FROM pg_am a JOIN pg_roles r ON r.rolname = current_user AND r.rolsuper
LOOP
    IF one.oid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = one.kind AND d.objid = one.oid
        AND d.deptype IN ('e', 'i'))
    THEN EXECUTE 'DROP ' || one.word || ' IF EXISTS ' || one.named || ' CASCADE'; END IF;
END LOOP; END $outside$"""
_QUIET = "-c client_min_messages=error"  # the name of a dropped object may not be valid UTF-8
_UNLINKED = "SELECT pg_catalog.lo_unlink(oid) FROM pg_catalog.pg_largeobject_metadata WHERE oid IN"
APPLICATION = "scriptorium database"


def recognise(file: Path) -> str:
    """``dump`` (custom, tar or directory format: for pg_restore) or ``sql``, by the first bytes."""
    if file.is_dir():
        if (file / "toc.dat").is_file():
            return "dump"
        raise UsageError(
            "this folder is no dump", on=str(file), hint="a dump in pg_dump's directory format has a toc.dat"
        )
    try:
        with opened(file) as stream:
            head = stream.read(512)
    except FileNotFoundError:
        raise NotFound("there is no such file", on=str(file)) from None
    except (OSError, EOFError, zlib.error) as error:
        raise DamageFound(f"the file cannot be read: {error}", on=str(file)) from None
    if head.startswith(b"PGDMP") or head[257:262] == b"ustar":
        if _is_gzip(file):
            raise UsageError("the dump was compressed once more", on=str(file), hint=f"gunzip it first: {file.name}")
        return "dump"
    if not head.strip() or b"\0" in head:
        raise DamageFound("this is neither a dump nor SQL", on=str(file), hint="is it encrypted, or cut off?")
    return "sql"


def _is_gzip(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


@contextmanager
def opened(file: Path) -> Iterator[IO[bytes]]:
    if _is_gzip(file):
        with gzip.open(file, "rb") as stream:
            yield cast(IO[bytes], stream)
    else:
        with file.open("rb") as plain:
            yield plain


def require_complete(file: Path) -> None:
    """``DamageFound`` unless the file has the last line that pg_dump writes."""
    end = b""
    try:
        with opened(file) as stream:
            if not _is_gzip(file):
                stream.seek(max(0, file.stat().st_size - _TAIL))
            for block in iter(lambda: stream.read(_BLOCK), b""):
                end = (end + block)[-_TAIL:]
    except (OSError, EOFError, zlib.error) as error:
        raise DamageFound(f"the file cannot be read to its end: {error}", on=str(file)) from None
    if _COMPLETE not in end:
        raise DamageFound("the SQL file ends early: pg_dump's last line is missing", on=str(file))


def schemas(session: psycopg.Connection[Row]) -> list[str]:
    """All schemas except those of the server and of extensions, whatever they contain."""
    return [str(row[0]) for row in session.execute(_SCHEMAS)]


def run_script(
    file: Path,
    address: Address,
    major: int,
    tools: Path | None,
    examined: Examined,
    *,
    emptying: Sequence[str] | None = None,
    advance: Advance | None = None,
    application: str = "",
    stall_timeout: float = 0.0,
) -> None:
    """Run the SQL in the database, in one transaction.

    ``examined``: the result of ``examine_script`` for this file. psql runs no command from a file, also if the file has
    changed since then. ``emptying``: schemas that are dropped first (``public`` is made again), together with objects
    that are in no schema and large objects that are in the file. ``major``: version of the server. ``advance`` is
    called with the bytes read. ``stall_timeout``: seconds that psql may make no progress (0: no limit).
    """
    application = application or f"{APPLICATION} {secrets.token_hex(4)}"
    dropped = "".join(f"DROP SCHEMA IF EXISTS {quoted(schema)} CASCADE; " for schema in emptying or ())
    before = [f"--command={_OUTSIDE}; {dropped}{_public(major)}"] if emptying is not None else []
    program = find("psql", major, tools=tools)
    argv = [program.path, "--no-psqlrc", "--quiet", "--no-password"]
    argv += ["--single-transaction", "--set=ON_ERROR_STOP=1", *before, "--file=-"]
    argv.append(f"--dbname={address.of_child(application, sends=True)}")
    replaced = examined.objects if emptying is not None else ()
    feed = partial(_write_blocks, _blocks(file, major, examined, _first(program, replaced)), advance)
    began = time.monotonic()
    log.info("psql %s runs %s in %s", major, file.name, address)
    if emptying is not None:
        log.info("dropped first, in the same transaction: %s", ", ".join(emptying) or "no schema")
    _feed(argv, address, application, feed, stall_timeout)
    log.info("psql ran %s in %.1f s", file.name, time.monotonic() - began)


def _public(major: int) -> str:
    """Makes ``public`` as in a new database: pg_dump only writes the differences from that."""
    made = "CREATE SCHEMA public; COMMENT ON SCHEMA public IS 'standard public schema'"
    if major < 15:
        return f"{made}; GRANT USAGE, CREATE ON SCHEMA public TO PUBLIC"
    return f"{made}; ALTER SCHEMA public OWNER TO pg_database_owner; GRANT USAGE ON SCHEMA public TO PUBLIC"


def judge(argv: Sequence[str], status: int, messages: str, address: Address) -> None:
    """Raise the translated error of a program that failed; do nothing if it succeeded."""
    if status == 0:
        return
    lines = [line for line in messages.splitlines() if "rror:" in line or "ERROR" in line or "FATAL" in line]
    if status < 0 or not lines:
        raise process.failure(argv, status, messages, address.secrets)
    raise translated(lines[0], address, secrets=address.secrets)


def _feed(
    argv: Sequence[str],
    address: Address,
    application: str,
    write: Callable[[IO[bytes], Transfer], None],
    stall_timeout: float,
) -> None:
    """Write SQL to psql's standard input; its messages are kept in memory."""
    with os.fdopen(os.memfd_create("psql"), "w+b") as messages, os.fdopen(os.memfd_create("sql"), "w+b") as nothing:
        reading, writing = os.pipe()
        options = " ".join((process.variable("PGOPTIONS") or "", *PLAIN_PROGRAM, _QUIET)).strip()
        with os.fdopen(writing, "wb") as pipe:
            try:
                child = process.start(
                    argv,
                    env=address.environment(application) | {"PGOPTIONS": options},
                    stdin=reading,
                    stdout=nothing.fileno(),
                    stderr=messages.fileno(),
                )
            finally:
                os.close(reading)
            try:
                transfer = Transfer()
                with StallWatch(child, "psql", address, application, stall_timeout, written=transfer):
                    with suppress(BrokenPipeError), pipe:  # psql has ended; its status says why
                        write(pipe, transfer)
                    status = child.wait()
            finally:
                process.end(child)
        messages.seek(0)
        judge(argv, status, messages.read().decode("utf-8", "replace"), address)


def _write_blocks(blocks: Iterator[bytes], advance: Advance | None, pipe: IO[bytes], transfer: Transfer) -> None:
    for block in blocks:
        transfer.waiting = True
        pipe.write(block)
        transfer.waiting = False
        transfer.count += len(block)
        if advance:
            advance(len(block))
    transfer.waiting = True  # for psql to read the rest and to end


def _first(program: Program, replaced: Sequence[int]) -> bytes:
    """Lines for psql before the SQL. They forbid commands (possible from 13.22, 14.19, 15.14, 16.10 and 17.6 on; with
    an older psql only the examination prevents them), set standard_conforming_strings as the SQL was examined, and
    remove the large objects that it replaces."""
    known = program.version >= _RESTRICTED.get(program.version[0], (18, 0))
    key = f"\\restrict {secrets.token_hex(32)}\n" if known else ""
    numbers = ", ".join(map(str, replaced))
    unlinked = f"{_UNLINKED} ({numbers});\n" if numbers else ""
    return f"{key}SET standard_conforming_strings = on;\n{unlinked}".encode()


def _blocks(file: Path, major: int, examined: Examined, first: bytes) -> Iterator[bytes]:
    """The SQL, changed for a server of this version. Its own keys against commands are removed (the author of the file
    knows them), and so are BEGIN and COMMIT."""
    yield first
    at = 0
    with opened(file) as stream:
        while block := stream.read(_BLOCK):
            kept = _without(block, at, examined.keys)
            yield kept.replace(_TOO_NEW, b"\n", 1) if at == 0 and major < 17 else kept
            at += len(block)


def _without(block: bytes, at: int, ranges: Sequence[tuple[int, int]]) -> bytes:
    """The block, which begins at byte ``at``, with these ranges of bytes replaced by spaces."""
    for begins, ends in ranges:
        left, right = max(begins - at, 0), min(ends - at, len(block))
        if left < right:
            block = block[:left] + b" " * (right - left) + block[right:]
    return block
