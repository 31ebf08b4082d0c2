"""Materialized views: a dump does not contain their rows; a restore fills them again.

So their rows do not show whether the backup is complete. They depend on tables, which are compared, and on functions,
the clock, other servers and other views at the time of the restore.
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

# For each materialized view all materialized views and foreign tables that its rows directly or indirectly come from.
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
    """The views with a fingerprint that depend on relations without one: on a view that may have other rows after a
    restore, or on another server."""
    relations = {one.oid: one for one in found}
    if not any(one.kind == "m" for one in relations.values()):
        return ()
    origins = defaultdict[int, set[int]](set)
    for root, origin in session.execute(_COME_FROM.encode()).fetchall():
        origins[int(str(root))].add(int(str(origin)))
    unsure = {oid for oid, one in relations.items() if one.kind in "mf" and one.name not in fingerprints}
    return tuple(one.name for oid, one in relations.items() if one.name in fingerprints and origins[oid] & unsure)


def rebuilt_views(
    found: Iterable[Relation], fingerprints: Mapping[str, TableFingerprint], expected: Mapping[str, TableFingerprint]
) -> dict[str, str]:
    """The filled views that have other rows than were recorded, with the reason why this is no damage."""
    return {
        one.name: "a restore fills the view again, and its query returns other rows now"
        for one in found
        if one.kind == "m"
        and one.populated
        and one.name in expected
        and fingerprints.get(one.name) != expected[one.name]
    }
