"""The number of rows and a fingerprint of every table, computed by the server in one scan for each table.

The fingerprint of a table (``pg1:`` and 32 hex digits) is a sum over its rows, so their order does not matter: each row
is written as text by ``ROW(columns by name)::text`` under fixed settings, hashed with SHA-256 as UTF-8, and the first
two 8-byte words of the hashes are summed modulo 2^64. docs/postgresql.md defines it completely, so that anyone can
compute it again, and shows what other formulas would cost.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scriptorium.errors import PermanentError, SourceUnavailable
from scriptorium.model import TableFingerprint
from scriptorium.sources.postgres.computing import Uncomputable, computed, of_the_session
from scriptorium.sources.postgres.connection import Row, quoted, sql
from scriptorium.sources.postgres.encodings import escaped
from scriptorium.sources.postgres.views import not_reproducible

if TYPE_CHECKING:
    import psycopg

PREFIX = "pg1:"
SAVED = "pg2:"  # without the generated columns, which are not in a dump
OWN_BYTES = "pg3:"  # as pg2, but of bytes in the database's own encoding: UTF-8 cannot express all of them
LARGE_OBJECTS = "pg_largeobject"
_LANE = 1 << 64
_CHUNK = 1 << 20
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_$]*\Z")
_SEQUENCE_COLUMNS = ("is_called", "last_value")

_RELATIONS = """
SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text, c.relispopulated,
       pg_table_size(c.oid), has_table_privilege(c.oid, 'SELECT'),
       ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attname COLLATE "C"),
       ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> '')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'S', 'm', 'f') AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
"""
# Tables that belong to an extension are left out: CREATE EXTENSION makes them again.


@dataclass(frozen=True, slots=True)
class Relation:
    """A table, sequence, materialized view or foreign table (``kind``: r, S, m, f); ``size`` in bytes on disk."""

    oid: int
    schema: str
    table: str
    kind: str
    populated: bool
    size: int
    readable: bool
    columns: tuple[str, ...]
    generated: frozenset[str] = frozenset()

    @property
    def saved(self) -> tuple[str, ...]:
        """The columns whose values are in a dump. Generated ones are not: a restore computes them again."""
        return tuple(column for column in self.columns if column not in self.generated)

    @property
    def name(self) -> str:
        """``schema.table``, in quotes where a name is not a plain word."""
        return written(self.schema, self.table)

    @property
    def sql(self) -> str:
        return quoted(self.schema, self.table)


def written(*names: str) -> str:
    """Names as text, joined by dots; one that is not a plain word is in quotes."""
    return ".".join(part if _PLAIN_NAME.match(part) else quoted(part) for part in map(escaped, names))


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """``tables`` by name; ``missing``: tables without a fingerprint, with the reason."""

    tables: Mapping[str, TableFingerprint]
    warnings: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)


def relations(session: psycopg.Connection[Row]) -> tuple[Relation, ...]:
    """Everything in the database that contains rows, sorted by name."""
    found = []
    for oid, schema, table, kind, populated, size, readable, columns, generated in session.execute(_RELATIONS):
        assert isinstance(columns, list) and isinstance(generated, list)
        found.append(
            Relation(
                int(str(oid)), str(schema), str(table), str(kind), bool(populated), int(str(size or 0)), bool(readable),
                tuple(columns), frozenset(generated),
            )
        )  # fmt: skip
    return tuple(found)


def require_readable(found: Sequence[Relation], on: object) -> None:
    """``PermanentError`` names every table that this role may not read."""
    closed = [one.name for one in found if not one.readable and one.kind != "f"]
    if closed:
        more = f" and {len(closed) - 5} more" if len(closed) > 5 else ""
        raise PermanentError(
            f"no right to read {', '.join(closed[:5])}{more}",
            on=str(on),
            hint="GRANT SELECT on them (or pg_read_all_data, from PostgreSQL 14 on) to the role that backs up",
        )


def take_fingerprints(
    session: psycopg.Connection[Row],
    found: Sequence[Relation],
    *,
    expected: Mapping[str, TableFingerprint] | None = None,
    between: Callable[[str], None] = lambda _: None,
) -> Fingerprints:
    """Rows and fingerprint of every table, sequence, materialized view, and of the large objects.

    ``session`` decides which snapshot is read; sequences belong to no snapshot, their present value is read. A
    materialized view is filled again by a restore, so it gets a fingerprint only if its rows are what its query
    returns. ``expected``: the fingerprints of the backup; then the same views get fingerprints, in the same way. What
    cannot be computed is in ``missing``. ``between`` is called with each name before its scan.
    """
    tables: dict[str, TableFingerprint] = {}
    warnings: list[str] = []
    missing: dict[str, str] = {}
    for one in found:
        between(one.name)
        if one.kind == "f":
            warnings.append(f"{one.name} is a foreign table: its rows are on another server and not in the backup")
            continue
        try:
            taken = _fingerprint(session, one, expected)
        except Uncomputable as error:
            missing[one.name] = str(error)
            continue
        if taken is not None:
            tables[one.name] = taken
        elif expected is None:
            warnings.append(
                f"{one.name} is filled again by a restore, and was not what its query returns: not compared"
            )
    if expected is None:
        for name in not_reproducible(session, found, tables):
            del tables[name]
            warnings.append(f"{name} is filled again by a restore, from what is not compared: not compared either")
    between("large objects")
    objects = large_objects(session)
    if objects is not None:
        tables[LARGE_OBJECTS] = objects
    return Fingerprints(tables, tuple(warnings), missing)


def _fingerprint(
    session: psycopg.Connection[Row], one: Relation, expected: Mapping[str, TableFingerprint] | None
) -> TableFingerprint | None:
    if one.kind == "m":
        return computed(session, lambda: _view_fingerprint(session, one, expected))
    return table_fingerprint(session, one, (expected or {}).get(one.name))


def table_fingerprint(
    session: psycopg.Connection[Row], one: Relation, expected: TableFingerprint | None = None
) -> TableFingerprint:
    """Rows and fingerprint of one table or sequence, computed like the ``expected`` ones, if given. ``Uncomputable`` if
    the server cannot compute them."""
    if one.kind == "S":
        return computed(session, lambda: _scan(session, one.sql, _SEQUENCE_COLUMNS, PREFIX))
    source = f"ONLY {one.sql}"
    if expected is not None:
        prefix = expected.fingerprint[: len(PREFIX)]
        return computed(session, lambda: _scan(session, source, one.columns if prefix == PREFIX else one.saved, prefix))
    first = SAVED if one.generated else PREFIX
    return computed(session, lambda: _in_any_way(session, source, one.saved, first))


def regenerated_columns(
    found: Iterable[Relation], fingerprints: Mapping[str, TableFingerprint], expected: Mapping[str, TableFingerprint]
) -> dict[str, str]:
    """What cannot be compared, and why. Fingerprints of older backups include generated columns, which the functions of
    today compute again. So such a fingerprint may differ although all rows were restored; their number is the same."""
    return {
        one.name: "its fingerprint, of an older version, includes generated columns, which are computed again"
        for one in found
        if one.generated
        and (was := expected.get(one.name)) is not None
        and (now := fingerprints.get(one.name)) is not None
        and was.fingerprint.startswith(PREFIX)
        and was != now
        and was.rows == now.rows
    }


def _in_any_way(session: psycopg.Connection[Row], source: str, columns: Sequence[str], prefix: str) -> TableFingerprint:
    """Hash the rows as UTF-8; if UTF-8 cannot express a row, hash bytes in the database's own encoding."""
    import psycopg

    try:
        with session.transaction():
            return _scan(session, source, columns, prefix)
    except (psycopg.errors.UntranslatableCharacter, psycopg.errors.CharacterNotInRepertoire):
        return _scan(session, source, columns, OWN_BYTES)


def _hashed_encoding(session: psycopg.Connection[Row], prefix: str) -> str:
    """Rows are hashed as UTF-8, also if the database has another encoding. With SQL_ASCII it is unknown."""
    row = session.execute("SHOW server_encoding").fetchone()
    own = str(row[0]) if row else "UTF8"
    return own if prefix == OWN_BYTES or own == "SQL_ASCII" else "UTF8"


def _scan(session: psycopg.Connection[Row], source: str, columns: Sequence[str], prefix: str) -> TableFingerprint:
    encoding = _hashed_encoding(session, prefix)
    row_text = f"ROW({', '.join(quoted(column) for column in columns)})::text"
    lanes = ", ".join(f"sum(('x' || substr(h, {at}, 16))::bit(64)::int8)" for at in (1, 17))
    # OFFSET 0 keeps the planner from computing the hash once for each lane.
    statement = (
        f"SELECT count(*), {lanes} FROM "
        f"(SELECT encode(sha256(convert_to({row_text}, '{encoding}')), 'hex') AS h FROM {source} OFFSET 0) AS rows"
    )
    row = session.execute(sql(statement)).fetchone()
    assert row is not None
    rows, first, second = (int(str(value or 0)) for value in row)
    return TableFingerprint(rows, _written(first, second, prefix))


def _written(first: int, second: int, prefix: str = PREFIX) -> str:
    return f"{prefix}{first % _LANE:016x}{second % _LANE:016x}"


def fingerprint(rows: Iterable[str]) -> str:
    """The fingerprint of rows that are already text, computed in Python as the server does."""
    first = second = 0
    for row in rows:
        digest = hashlib.sha256(row.encode()).digest()
        first += int.from_bytes(digest[:8], "big", signed=True)
        second += int.from_bytes(digest[8:16], "big", signed=True)
    return _written(first, second)


def sequence_fingerprint(last_value: int, is_called: bool) -> TableFingerprint:
    """A sequence counts as a table of one row with the columns ``is_called`` and ``last_value``."""
    return TableFingerprint(1, fingerprint([f"({'t' if is_called else 'f'},{last_value})"]))


def _view_fingerprint(
    session: psycopg.Connection[Row], one: Relation, expected: Mapping[str, TableFingerprint] | None
) -> TableFingerprint | None:
    if expected is not None:
        if one.name not in expected or not one.populated:
            return None
        return _scan(session, one.sql, one.columns, expected[one.name].fingerprint[: len(PREFIX)])
    if not one.populated:
        return None
    stored = _in_any_way(session, one.sql, one.columns, PREFIX)
    return stored if stored == _fresh(session, one, stored.fingerprint[: len(PREFIX)]) else None


def _fresh(session: psycopg.Connection[Row], one: Relation, prefix: str) -> TableFingerprint | None:
    """What the view's query returns now; ``None`` if it fails."""
    import psycopg

    row = session.execute("SELECT pg_get_viewdef(%s::oid)", (one.oid,)).fetchone()
    query = str(row[0] if row else "").rstrip().rstrip(";")
    try:
        with session.transaction():
            return _scan(session, f"({query}) AS fresh", one.columns, prefix)
    except psycopg.Error as error:
        if of_the_session(session, error):
            raise
        return None


def large_objects(session: psycopg.Connection[Row]) -> TableFingerprint | None:
    """All large objects as one table, if there are any; a row is a chunk of 1 MiB: ``(object,number,sha256)``."""
    row = session.execute("SELECT count(*) FROM pg_largeobject_metadata").fetchone()
    count = int(str(row[0])) if row else 0
    return TableFingerprint(count, fingerprint(_chunks(session))) if count else None


def _chunks(session: psycopg.Connection[Row]) -> Iterator[str]:
    last = -1
    while True:
        # 262144 opens for reading. A descriptor stays open until the transaction ends, so each is closed at once.
        batch = session.execute(
            "SELECT o.oid::int8, lo_lseek64(d.fd, 0, 2), lo_close(d.fd) FROM "
            "(SELECT oid FROM pg_largeobject_metadata WHERE oid::int8 > %s ORDER BY oid LIMIT 500) o, "
            "LATERAL (SELECT lo_open(o.oid, 262144) AS fd OFFSET 0) d ORDER BY 1",
            (last,),
        ).fetchall()
        if not batch:
            return
        for oid, size, _ in batch:
            for number in range(max(1, -(-int(str(size)) // _CHUNK))):
                row = session.execute(
                    "SELECT encode(sha256(lo_get(%s::oid, %s, %s)), 'hex')", (oid, number * _CHUNK, _CHUNK)
                ).fetchone()
                if row is None:
                    raise SourceUnavailable("a large object vanished while it was read", on=str(oid))
                yield f"({oid},{number},{row[0]})"
        last = int(str(batch[-1][0]))
