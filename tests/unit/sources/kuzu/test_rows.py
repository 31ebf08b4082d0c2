"""The fingerprint: what changes it and what does not; checked against its description in docs/snapshots.md."""

from __future__ import annotations

import datetime
import hashlib
import struct
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scriptorium.sources.kuzu.fingerprint import Fingerprint, encode, encode_objects

NAMES = ["a", "b"]


TYPES = (pa.int64(), pa.string())


def fingerprint(rows: list[tuple[Any, Any]], kind: str = "node", types: Any = TYPES) -> str:
    total = Fingerprint(kind, NAMES)
    total.add([encode(pa.array([row[at] for row in rows], type)) for at, type in enumerate(types)])
    return total.text()


def described(rows: list[tuple[int | None, str | None]], kind: str = "node") -> str:
    """The description, followed by hand."""

    def lanes(data: bytes) -> list[int]:
        return list(struct.unpack(">4Q", hashlib.sha256(data).digest()))

    def value(what: int | str | None) -> bytes:
        text = str(what).encode()
        return b"-" if what is None else b"%d:%s" % (len(text), text)

    total = lanes(b"rows1 " + kind.encode() + b"\n1:a1:b")
    for row in rows:
        total = [(old + new) % 2**64 for old, new in zip(total, lanes(value(row[0]) + value(row[1])), strict=True)]
    return "rows1:" + "".join(f"{lane:016x}" for lane in total)


row = st.tuples(st.none() | st.integers(-(2**63), 2**63 - 1), st.none() | st.text(max_size=12))


@settings(deadline=None, max_examples=60)
@given(st.lists(row, max_size=12), st.randoms())
def test_it_is_what_the_documentation_describes_whatever_the_order(rows: list[Any], dice: Any) -> None:
    expected = described(rows)
    dice.shuffle(rows)
    assert fingerprint(rows) == expected


@settings(deadline=None, max_examples=40)
@given(st.lists(row, min_size=1, max_size=12), st.integers(0, 12))
def test_portions_do_not_matter(rows: list[Any], cut: int) -> None:
    total = Fingerprint("node", NAMES)
    for part in (rows[:cut], rows[cut:]):
        total.add(
            [
                encode(pa.array([row[0] for row in part], pa.int64())),
                encode(pa.array([r[1] for r in part], pa.string())),
            ]
        )
    assert (total.text(), total.rows) == (fingerprint(rows), len(rows))


BASE = [(1, "x"), (2, "y"), (2, "y")]


@pytest.mark.parametrize(
    "rows",
    [
        [(1, "x"), (2, "y")],  # a parallel edge less
        [(1, "x"), (2, "y"), (2, "y"), (2, "y"), (2, "y")],  # two more: a sum sees what an xor would not
        [(1, "x"), (2, "y"), (2, "z")],
        [(1, ""), (2, "y"), (2, "y")],
        [(1, None), (2, "y"), (2, "y")],
        [(None, "x"), (2, "y"), (2, "y")],
        [(1, "y"), (2, "x"), (2, "y")],  # values that changed places
        [],
    ],
)
def test_every_other_content_has_another_fingerprint(rows: list[Any]) -> None:
    assert fingerprint(rows) != fingerprint(BASE)


def test_null_is_not_empty_and_columns_do_not_run_together() -> None:
    texts = (pa.string(), pa.string())
    different = [("", None), (None, ""), ("", ""), (None, None), ("ab", "c"), ("a", "bc"), ("1:a", ""), ("-", None)]
    assert len({fingerprint([pair], types=texts) for pair in different}) == len(different)


def test_kinds_and_column_names_count() -> None:
    assert len({fingerprint([]), fingerprint([], "rel"), Fingerprint("node", ["a", "c"]).text()}) == 3


NAN = struct.unpack("<d", b"\x01\0\0\0\0\0\xf8\x7f")[0]
LONG_AGO = datetime.datetime(1815, 12, 10, 1, 2, 3, 456789)


@pytest.mark.parametrize(
    ("type", "value", "expected"),
    [
        (pa.bool_(), True, b"1:1"),
        (pa.int8(), -1, b"2:-1"),
        (pa.uint64(), 2**64 - 1, b"20:18446744073709551615"),
        (pa.decimal128(38, 0), Decimal(10**38 - 1), b"38:" + b"9" * 38),
        (pa.decimal128(18, 3), Decimal("-1.500"), b"5:-1500"),
        (pa.float64(), 1.0, b"19:4607182418800017408"),
        (pa.float64(), -0.0, b"20:-9223372036854775808"),
        (pa.float64(), NAN, b"19:9221120237041090561"),
        (pa.float32(), 1.0, b"10:1065353216"),
        (pa.string(), "é", b"2:\xc3\xa9"),
        (pa.binary(), b"\0\xff", b"2:\0\xff"),
        (pa.date32(), datetime.date(1970, 1, 3), b"1:2"),
        (pa.timestamp("us"), LONG_AGO, b"17:-4861724276543211"),
        (pa.timestamp("ns"), LONG_AGO, b"20:-4861724276543211000"),
        (pa.list_(pa.int64()), [1, None, 22], b"8:1:1-2:22"),
        (pa.list_(pa.string()), [], b"0:"),
        (pa.list_(pa.list_(pa.string())), [["a"], None, []], b"8:3:1:a-0:"),
        (pa.list_(pa.int64(), 2), [3, 4], b"6:1:31:4"),
        (pa.map_(pa.string(), pa.int64()), [("k", 1), ("l", None)], b"10:1:k1:11:l-"),
    ],
)
def test_each_type_is_encoded_as_described(type: Any, value: Any, expected: bytes) -> None:
    array = pa.array([None, value, None, value], type)
    assert encode(array).to_pylist() == [b"-", expected, b"-", expected]
    assert encode(array.slice(1, 2)).to_pylist() == [expected, b"-"]
    assert encode(pa.chunked_array([array[:1], array[1:]])).to_pylist() == [b"-", expected, b"-", expected]
    assert encode(pa.chunked_array([], type)).to_pylist() == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"b": 1, "a": "x"}, b"12:1:a1:x1:b1:1"),
        ({"a": None}, b"4:1:a-"),
        ([{"a": True}], b"8:6:1:a1:1"),
        (1.0, b"19:4607182418800017408"),
        (LONG_AGO, b"17:-4861724276543211"),
        (LONG_AGO.replace(tzinfo=datetime.UTC), b"17:-4861724276543211"),
        (datetime.date(1970, 1, 3), b"1:2"),
        (b"\xff", b"1:\xff"),
        (None, b"-"),
    ],
)
def test_structs_are_encoded_as_values(value: Any, expected: bytes) -> None:
    assert encode_objects([value]).to_pylist() == [expected]
