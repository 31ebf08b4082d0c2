"""Rows that the server distributes differently: after a restore a hash may choose another partition for a row.

Then the whole partitioned table is compared: a fingerprint is a sum over rows, so those of the partitions are added.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from scriptorium.model import TableFingerprint
from scriptorium.sources.postgres.connection import Row
from scriptorium.sources.postgres.fingerprint import relations

if TYPE_CHECKING:
    import psycopg

_LANE = 1 << 64
_SPREAD = """
WITH RECURSIVE spread AS (
    SELECT partrelid AS root, partrelid AS oid FROM pg_partitioned_table WHERE partstrat = 'h'
    UNION ALL SELECT spread.root, i.inhrelid FROM spread JOIN pg_inherits i ON i.inhparent = spread.oid)
SELECT root::int8, oid::int8 FROM spread
"""


def as_recorded(
    session: psycopg.Connection[Row],
    fingerprints: Mapping[str, TableFingerprint],
    expected: Mapping[str, TableFingerprint],
) -> dict[str, TableFingerprint]:
    """The recorded fingerprints of hash partitions, if all partitions together have the rows that were recorded."""
    names = {one.oid: one.name for one in relations(session) if one.kind == "r"}
    tables = defaultdict[int, list[str]](list)
    for root, oid in session.execute(_SPREAD.encode()).fetchall():
        if name := names.get(int(str(oid))):
            tables[int(str(root))].append(name)
    same: dict[str, TableFingerprint] = {}
    for members in tables.values():
        known = all(name in fingerprints and name in expected for name in members)
        if known and _sum(fingerprints[name] for name in members) == _sum(expected[name] for name in members):
            same.update({name: expected[name] for name in members})
    return same


def _sum(fingerprints: Iterable[TableFingerprint]) -> tuple[int, int, int, frozenset[str]]:
    rows = first = second = 0
    kinds = set[str]()
    for one in fingerprints:
        kind, _, lanes = one.fingerprint.partition(":")
        rows, first, second = rows + one.rows, first + int(lanes[:16], 16), second + int(lanes[16:], 16)
        kinds.add(kind)
    return rows, first % _LANE, second % _LANE, frozenset(kinds)
