"""PostgreSQL's COPY text, read as its manual describes it."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scriptorium.errors import DamageFound, PermanentError
from scriptorium.sources.postgres.export.copy_text import copied

_ESCAPES = {"\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}


def written(value: str | None) -> str:
    """As the server writes a value."""
    return "\\N" if value is None else "".join(_ESCAPES.get(letter, letter) for letter in value)


def text(*lines: str, head: str = "COPY public.t (a, b) FROM stdin;", end: str = "\\.\n\n\n") -> bytes:
    return ("\n".join(["--", "-- Data for Name: t; Type: TABLE DATA", "", head, *lines]) + "\n" + end).encode()


letters = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
values = st.none() | letters | st.text("\\\tnN.\n\rbxt0", max_size=6)


@given(st.lists(st.tuples(values, values), max_size=6))
def test_what_was_written_is_read(rows):
    found = copied(io.BytesIO(text(*("\t".join(map(written, row)) for row in rows))))
    assert found is not None
    assert list(found.rows) == [list(row) for row in rows]


@given(letters.filter(bool), letters.filter(bool), st.lists(letters.filter(bool), min_size=1, max_size=3))
def test_names_of_every_kind_are_read(schema, table, columns):
    quoted = ['"' + name.replace('"', '""') + '"' for name in (schema, table, *columns)]
    head = f"COPY {quoted[0]}.{quoted[1]} ({', '.join(quoted[2:])}) FROM stdin;"
    found = copied(io.BytesIO(text(head=head)))
    assert found is not None
    assert (found.name, found.columns, list(found.rows)) == ((schema, table), tuple(columns), [])


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        (text("1\t2", end=""), "end early"),
        (text("1"), "1 values, not 2"),
        (text("1\t2\t3"), "3 values, not 2"),
        (text("1\t2", head="COPY (SELECT 1) TO stdout;"), "no COPY"),
    ],
)
def test_what_is_not_whole_is_damage(damaged, message):
    with pytest.raises(DamageFound, match=message):
        found = copied(io.BytesIO(damaged))
        assert found is not None
        list(found.rows)


def test_text_without_a_table_has_none():
    assert copied(io.BytesIO(b"--\n-- PostgreSQL database dump complete\n")) is None


@pytest.mark.parametrize(
    ("encoding", "raw", "meant"),
    [
        ("UTF8", "é漢".encode(), "é漢"),
        ("LATIN1", b"\xe9", "é"),
        ("LATIN9", b"\xa4", "€"),
        ("WIN1252", b"\x80", "€"),
        ("EUC_JP", "漢".encode("euc_jp"), "漢"),
        ("KOI8R", "ж".encode("koi8_r"), "ж"),
        ("SQL_ASCII", "é".encode(), "é"),
    ],
)
def test_the_encoding_is_the_one_that_the_text_names(encoding, raw, meant):
    head = f"SET client_encoding = '{encoding}';\nCOPY public.t (a) FROM stdin;\n".encode()
    found = copied(io.BytesIO(head + raw + b"\n\\.\n"))
    assert found is not None
    assert list(found.rows) == [[meant]]


def test_bytes_that_are_no_text_and_encodings_that_nobody_knows_are_refused():
    with pytest.raises(PermanentError, match="no text"):
        found = copied(io.BytesIO(b"COPY public.t (a) FROM stdin;\n\xff\n\\.\n"))
        assert found is not None
        list(found.rows)
    with pytest.raises(PermanentError, match="cannot be read"):
        copied(io.BytesIO(b"SET client_encoding = 'MULE_INTERNAL';\n"))
