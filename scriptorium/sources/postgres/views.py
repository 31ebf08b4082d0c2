"""Materialized views: a dump holds none of their rows, and whoever loads it makes them anew.

So their rows say nothing about what was saved: they follow from tables that are compared, from the functions, the
clock and the other servers of that day, and from other views as they are then.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from scriptorium.model import TableFingerprint
from scriptorium.sources.postgres.connection import Row

if TYPE_CHECKING:
    import psycopg

    from scriptorium.sources.postgres.fingerprint import Relation

# Of each materialized view all materialized views and foreign tables that its rows come from, by whatever way.
_COME_FROM = """
WITH RECURSIVE step AS (
    SELECT r.ev_class AS made, d.refobjid AS origin FROM pg_rewrite r
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
    WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class
    UNION SELECT inhparent, inhrelid FROM pg_inherits),
line AS (
    SELECT c.oid AS root, step.origin FROM pg_class c JOIN step ON step.made = c.oid WHERE c.relkind = 'm'
    UNION SELECT line.root, step.origin FROM line JOIN step ON step.made = line.origin)
SELECT line.root::int8, c.oid::int8 FROM line JOIN pg_class c ON c.oid = line.origin WHERE c.relkind IN ('m', 'f')
"""


def not_reproducible(
    session: psycopg.Connection[Row], found: Iterable[Relation], fingerprints: Mapping[str, TableFingerprint]
) -> tuple[str, ...]:
    """The views with a fingerprint that depend on relations without one: on a view that has other rows after a restore,
    or on another server."""
    relations = {one.oid: one for one in found}
    if not any(one.kind == "m" for one in relations.values()):
        return ()
    origins = defaultdict[int, set[int]](set)
    for root, origin in session.execute(_COME_FROM.encode()).fetchall():
        origins[int(str(root))].add(int(str(origin)))
    unsure = {oid for oid, one in relations.items() if one.kind in "mf" and one.name not in fingerprints}
    return tuple(one.name for oid, one in relations.items() if one.name in fingerprints and origins[oid] & unsure)


def made_anew(
    found: Iterable[Relation], fingerprints: Mapping[str, TableFingerprint], expected: Mapping[str, TableFingerprint]
) -> dict[str, str]:
    """The views that are filled and have other rows than were recorded, with the reason why that is no damage."""
    return {
        one.name: "a restore makes the view anew, and its query gives other rows now"
        for one in found
        if one.kind == "m"
        and one.populated
        and one.name in expected
        and fingerprints.get(one.name) != expected[one.name]
    }
