"""Rows that their own table rejects, because its checks, or functions that its generated columns call, fail today."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scriptorium.errors import ToolFailed
from scriptorium.sources.postgres.computing import of_the_session
from scriptorium.sources.postgres.connection import Row, quoted, sql

if TYPE_CHECKING:
    import psycopg

_OF_THESE = "(n.nspname::text, c.relname::text) IN (SELECT * FROM unnest(%(schemas)s::text[], %(tables)s::text[]))"
# The tables, their parents (whose checks they inherit), and all types that occur in their columns.
_TYPES = f"""
WITH RECURSIVE line AS (
    SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {_OF_THESE}
    UNION SELECT i.inhparent FROM line JOIN pg_inherits i ON i.inhrelid = line.oid),
types AS (
    SELECT a.atttypid AS oid FROM pg_attribute a JOIN line ON line.oid = a.attrelid WHERE a.attnum > 0
    UNION SELECT inner_type.oid FROM types JOIN pg_type t ON t.oid = types.oid CROSS JOIN LATERAL (
        SELECT t.typbasetype AS oid WHERE t.typtype = 'd'
        UNION ALL SELECT t.typelem WHERE t.typelem <> 0
        UNION ALL SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0
        UNION ALL SELECT r.rngsubtype FROM pg_range r WHERE r.rngtypid = t.oid
        UNION ALL SELECT r.rngsubtype FROM pg_range r WHERE to_jsonb(r) ->> 'rngmultitypid' = t.oid::text
    ) AS inner_type)
"""
# Owner as SQL, name, definition.
_CHECKS = f"""{_TYPES}
SELECT 'TABLE ' || o.conrelid::regclass, o.conname::text, pg_get_constraintdef(o.oid)
FROM pg_constraint o JOIN line ON line.oid = o.conrelid WHERE o.contype = 'c' AND o.coninhcount = 0
UNION ALL
SELECT 'DOMAIN ' || format_type(o.contypid, NULL), o.conname::text, pg_get_constraintdef(o.oid)
FROM pg_constraint o JOIN types ON types.oid = o.contypid WHERE o.contype = 'c'
"""
_NOT_NULL = f"""{_TYPES}
SELECT format_type(t.oid, NULL) FROM types JOIN pg_type t ON t.oid = types.oid WHERE t.typtype = 'd' AND t.typnotnull
"""
_GENERATED = f"""
SELECT c.oid::regclass::text, a.attname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid WHERE {_OF_THESE} AND a.attgenerated = 's' AND NOT a.attisdropped
"""
_PARTITIONS = f"""
SELECT i.inhparent::regclass::text, c.oid::regclass::text, pg_get_expr(c.relpartbound, c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_inherits i ON i.inhrelid = c.oid
WHERE {_OF_THESE} AND c.relispartition
"""
_Names = Mapping[str, list[str]]
Table = tuple[str, str]  # its schema and its name


@dataclass(frozen=True, slots=True)
class _Check:
    owner: str
    name: str
    definition: str


def load_without_checks(
    session: psycopg.Connection[Row], tables: Sequence[Table], load: Callable[[], None]
) -> list[str]:
    """Drop the tables' checks, load the rows, make the checks again; returns what differs from before.

    ``load`` loads the rows that are not loaded yet, and raises ``ToolFailed`` if some still do not fit. Then generated
    columns become plain and empty columns, domains may be NULL, and a partition that rejects its rows becomes a
    separate table.
    """
    names, notes = {"schemas": [one for one, _ in tables], "tables": [one for _, one in tables]}, list[str]()
    path = session.execute("SELECT current_setting('search_path')").fetchone()
    session.execute("SET search_path = ''")  # so that every name is written with its schema
    checks = [_Check(str(a), str(b), str(c)) for a, b, c in session.execute(sql(_CHECKS), names)]
    for one in checks:
        session.execute(sql(f"ALTER {one.owner} DROP CONSTRAINT {quoted(one.name)}"))
    try:
        load()
    except ToolFailed as error:
        plain, apart = list(_make_plain(session, names)), list(_detach(session, names))
        domains = list(_allow_null(session, names))
        if not plain and not apart and not domains:
            raise
        load()
        notes += _attach(session, apart)
        notes += [f"{one} cannot be generated ({error.what}): a plain column now, and empty" for one in plain]
        notes += _forbid_null(session, domains)
    session.execute("SELECT set_config('search_path', %s, false)", path)
    return [*notes, *_make_again(session, checks)]


def _make_plain(session: psycopg.Connection[Row], names: _Names) -> Iterator[str]:
    for table, column in session.execute(sql(_GENERATED), names).fetchall():
        session.execute(sql(f"ALTER TABLE {table} ALTER COLUMN {quoted(str(column))} DROP EXPRESSION"))
        yield f"{table}.{column}"


def _detach(session: psycopg.Connection[Row], names: _Names) -> Iterator[tuple[str, str, str]]:
    for parent, partition, bound in session.execute(sql(_PARTITIONS), names).fetchall():
        session.execute(sql(f"ALTER TABLE {parent} DETACH PARTITION {partition}"))
        yield str(parent), str(partition), str(bound)


def _allow_null(session: psycopg.Connection[Row], names: _Names) -> Iterator[str]:
    for (domain,) in session.execute(sql(_NOT_NULL), names).fetchall():
        session.execute(sql(f"ALTER DOMAIN {domain} DROP NOT NULL"))
        yield str(domain)


def _forbid_null(session: psycopg.Connection[Row], domains: Iterable[str]) -> Iterator[str]:
    import psycopg

    for domain in domains:
        try:
            session.execute(sql(f"ALTER DOMAIN {domain} SET NOT NULL"))
        except psycopg.Error as error:
            if of_the_session(session, error):
                raise
            yield f"NOT NULL of domain {domain} {_why(error)}: it is left out"


def _why(error: psycopg.Error) -> str:
    """Why a check was not made valid. The server cannot check a domain that is used inside other types."""
    broken = (error.sqlstate or "").startswith("23")
    return f"{'does not hold' if broken else 'cannot be checked'} ({error.diag.message_primary})"


def _attach(session: psycopg.Connection[Row], apart: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    import psycopg

    for parent, partition, bound in apart:
        try:
            session.execute(sql(f"ALTER TABLE {parent} ATTACH PARTITION {partition} {bound}"))
        except psycopg.Error as error:
            if of_the_session(session, error):
                raise
            yield f"{partition} is a table apart from {parent}: rows do not fit ({error.diag.message_primary})"


def _of(owner: str) -> str:
    kind, name = owner.split(" ", 1)
    return f"{kind.lower()} {name}"


def _make_again(session: psycopg.Connection[Row], checks: Iterable[_Check]) -> Iterator[str]:
    import psycopg

    for one in checks:
        statement = f"ALTER {one.owner} ADD CONSTRAINT {quoted(one.name)} {one.definition}"
        try:
            session.execute(sql(statement))
        except psycopg.Error as error:
            if of_the_session(session, error):
                raise
            not_valid = "" if one.definition.endswith("NOT VALID") else " NOT VALID"
            session.execute(sql(statement + not_valid))
            yield f"{one.name} of {_of(one.owner)} {_why(error)}: made NOT VALID"
