"""Rows that do not fit the table they were saved from: its checks fail today, or what its generated columns call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scriptorium.errors import ToolFailed
from scriptorium.sources.postgres.connection import Row, quoted, sql

if TYPE_CHECKING:
    import psycopg

# Of a table, its parents (whose checks it has) and the domains of its columns: owner as SQL, name, definition.
_CHECKS = """
WITH RECURSIVE line AS (
    SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname || '.' || c.relname = ANY(%(names)s)
    UNION SELECT i.inhparent FROM line JOIN pg_inherits i ON i.inhrelid = line.oid),
types AS (
    SELECT a.atttypid AS oid FROM pg_attribute a JOIN line ON line.oid = a.attrelid WHERE a.attnum > 0
    UNION SELECT CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.typelem END
    FROM types JOIN pg_type t ON t.oid = types.oid WHERE t.typtype = 'd' OR t.typelem <> 0)
SELECT 'TABLE ' || o.conrelid::regclass, o.conname::text, pg_get_constraintdef(o.oid)
FROM pg_constraint o JOIN line ON line.oid = o.conrelid WHERE o.contype = 'c' AND o.coninhcount = 0
UNION ALL
SELECT 'DOMAIN ' || format_type(o.contypid, NULL), o.conname::text, pg_get_constraintdef(o.oid)
FROM pg_constraint o JOIN types ON types.oid = o.contypid WHERE o.contype = 'c'
"""
_GENERATED = """
SELECT c.oid::regclass::text, a.attname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid
WHERE n.nspname || '.' || c.relname = ANY(%(names)s) AND a.attgenerated = 's' AND NOT a.attisdropped
"""
_PARTITIONS = """
SELECT i.inhparent::regclass::text, c.oid::regclass::text, pg_get_expr(c.relpartbound, c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_inherits i ON i.inhrelid = c.oid
WHERE n.nspname || '.' || c.relname = ANY(%(names)s) AND c.relispartition
"""


@dataclass(frozen=True, slots=True)
class _Check:
    owner: str
    name: str
    definition: str


def load_all_the_same(session: psycopg.Connection[Row], names: Sequence[str], load: Callable[[], None]) -> list[str]:
    """Load rows into the tables without their checks, and make these again; returns what is not as it was.

    ``load`` raises ``ToolFailed`` where rows still do not fit; then generated columns become plain ones, and are
    empty, and a partition that does not take its rows becomes a table by itself.
    """
    names, told = list(names), list[str]()
    path = session.execute("SELECT current_setting('search_path')").fetchone()
    session.execute("SET search_path = ''")  # so that every name is written with its schema
    checks = [_Check(str(a), str(b), str(c)) for a, b, c in session.execute(_CHECKS, {"names": names})]
    for one in checks:
        session.execute(sql(f"ALTER {one.owner} DROP CONSTRAINT {quoted(one.name)}"))
    try:
        load()
    except ToolFailed as error:
        plain, apart = list(_make_plain(session, names)), list(_detach(session, names))
        if not plain and not apart:
            raise
        load()
        told += _attach(session, apart)
        told += [f"{one} cannot be generated ({error.what}): a plain column now, and empty" for one in plain]
    session.execute("SELECT set_config('search_path', %s, false)", path)
    return [*told, *_make_again(session, checks)]


def _make_plain(session: psycopg.Connection[Row], names: list[str]) -> Iterator[str]:
    for table, column in session.execute(_GENERATED, {"names": names}).fetchall():
        session.execute(sql(f"ALTER TABLE {table} ALTER COLUMN {quoted(str(column))} DROP EXPRESSION"))
        yield f"{table}.{column}"


def _detach(session: psycopg.Connection[Row], names: list[str]) -> Iterator[tuple[str, str, str]]:
    for parent, partition, bound in session.execute(_PARTITIONS, {"names": names}).fetchall():
        session.execute(sql(f"ALTER TABLE {parent} DETACH PARTITION {partition}"))
        yield str(parent), str(partition), str(bound)


def _attach(session: psycopg.Connection[Row], apart: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    import psycopg

    for parent, partition, bound in apart:
        try:
            session.execute(sql(f"ALTER TABLE {parent} ATTACH PARTITION {partition} {bound}"))
        except psycopg.Error as error:
            if isinstance(error, psycopg.OperationalError):
                raise
            yield f"{partition} is a table apart from {parent}: rows do not fit ({error.diag.message_primary})"


def _make_again(session: psycopg.Connection[Row], checks: Iterable[_Check]) -> Iterator[str]:
    import psycopg

    for one in checks:
        statement = f"ALTER {one.owner} ADD CONSTRAINT {quoted(one.name)} {one.definition}"
        try:
            session.execute(sql(statement))
        except psycopg.Error as error:
            if isinstance(error, psycopg.OperationalError):
                raise
            not_valid = "" if one.definition.endswith("NOT VALID") else " NOT VALID"
            session.execute(sql(statement + not_valid))
            yield f"{one.name} of {one.owner.lower()} does not hold ({error.diag.message_primary}): made NOT VALID"
