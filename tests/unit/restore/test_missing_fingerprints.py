"""Restored tables are compared with the record: differences, and tables without a fingerprint."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from scriptorium.model import Part, TableFingerprint
from scriptorium.restore.proof import compare_tables

NOW = datetime(2026, 3, 1, tzinfo=UTC)
BOOK, TAG = TableFingerprint(2, "rows1:a"), TableFingerprint(1, "rows1:b")


@pytest.mark.parametrize(
    ("recorded", "without", "found", "missing", "differences"),
    [
        ({"Book": BOOK}, {}, {"Book": BOOK}, {}, []),
        ({"Book": BOOK}, {}, {"Book": TAG, "Tag": TAG}, {}, ["different rows", "extra table"]),
        ({"Book": BOOK}, {"Tag": "its name"}, {"Book": BOOK, "Tag": TAG}, {}, []),
        ({"Book": BOOK}, {"Tag": "its name"}, {"Book": TAG, "Tag": TAG}, {}, ["different rows"]),
        ({"Book": BOOK, "Tag": TAG}, {}, {"Book": BOOK}, {"Tag": "too big now"}, []),
        ({"Book": BOOK, "Tag": TAG}, {}, {"Book": BOOK}, {}, ["missing table"]),
        ({}, {"": "memory"}, {"Book": BOOK}, {}, []),
        ({"Book": BOOK}, {}, {}, {"": "memory"}, []),
    ],
)
def test_what_is_without_fingerprint_is_no_difference(
    recorded: Mapping[str, TableFingerprint],
    without: Mapping[str, str],
    found: Mapping[str, TableFingerprint],
    missing: Mapping[str, str],
    differences: list[str],
) -> None:
    part = Part("g", "kuzu", "g", 0, 1, NOW, NOW, "", tables=recorded, missing_fingerprints=without)
    assert [one.verdict for one in compare_tables(part, found, missing)] == differences
