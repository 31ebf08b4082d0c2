"""Fingerprints: what changes them, what does not, and that anybody can compute them."""

from __future__ import annotations

import hashlib

import psycopg
import pytest

from scriptorium.errors import PermanentError
from scriptorium.sources.postgres.fingerprint import fingerprint, relations, require_readable, take_fingerprints
from scriptorium.sources.postgres.login import Login


def fingerprints_of(url: str) -> dict:
    with Login(database=url).address().session() as session:
        return dict(take_fingerprints(session, relations(session)).tables)


@pytest.mark.parametrize("setting", ["statement_timeout = '30ms'", "default_transaction_read_only = on"])
def test_settings_of_the_database_do_not_cut_the_work_short(server, new_database, setting):
    url = new_database(server, "CREATE TABLE t AS SELECT generate_series(1, 300000) AS x")
    change(server.address(), f"ALTER DATABASE {url.rpartition('/')[2]} SET {setting}")
    assert fingerprints_of(url)["public.t"].rows == 300_000
    with Login(database=url).address().session() as session:
        session.execute("CREATE TABLE public.u ()")


def change(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as session:
        session.execute(statement)


def test_everything_is_counted_once_under_its_name(every_server, new_database, everything):
    found = fingerprints_of(new_database(every_server, everything))
    assert {name: fact.rows for name, fact in found.items()} == {
        'public."O\'dd ""seq"". x"': 1,
        "other.asked": 1,
        "other.bare": 0,
        "pg_largeobject": 2,
        'public."Weird ""Name"", x"': 3,
        "public.all_types": 50,
        "public.all_types_id_seq": 1,
        "public.bare": 1,
        "public.cache": 1,
        "public.child": 2,
        "public.logs_2023": 8,
        "public.logs_2024": 8,
        "public.moods": 3,
        "public.never_asked": 1,
        "public.nobody": 1,
        "public.parent": 1,
    }


def test_generations_agree(generations, server_of, new_database, everything):
    if len(generations) < 2:
        pytest.skip("one generation only")
    answers = [fingerprints_of(new_database(server_of(major), everything)) for major in generations]
    assert all(answer == answers[0] for answer in answers)


@pytest.mark.parametrize(
    ("statement", "table"),
    [
        ("UPDATE all_types SET nothing = '' WHERE id = 7", "public.all_types"),
        ("UPDATE all_types SET empty = NULL WHERE id = 7", "public.all_types"),
        ("UPDATE all_types SET f8 = 0 WHERE id = 1", "public.all_types"),  # it was -0
        ("UPDATE all_types SET n = 5.1 WHERE id = 5", "public.all_types"),  # it was 5.10
        ('UPDATE all_types SET js = \'{"b":1, "a": [2]}\' WHERE id = 5', "public.all_types"),
        ('UPDATE all_types SET arr = \'{x,"",NULL,"a,b\\"c"}\' WHERE id = 5', "public.all_types"),
        ("UPDATE all_types SET by = by || '\\x00' WHERE id = 5", "public.all_types"),
        ("UPDATE all_types SET ts = ts + interval '1 microsecond' WHERE id = 5", "public.all_types"),
        ("UPDATE all_types SET z = a, a = z WHERE id = 5", "public.all_types"),
        ('DELETE FROM "Weird ""Name"", x" WHERE ctid = \'(0,1)\'', 'public."Weird ""Name"", x"'),
        ("UPDATE logs_2024 SET what = 'x' WHERE at = '2024-01-27'", "public.logs_2024"),
        ("UPDATE cache SET v = 'c'", "public.cache"),
        ("SELECT nextval('never_asked')", "public.never_asked"),
        ("SELECT nextval('other.asked')", "other.asked"),
        ("SELECT lo_put(4711, 2000000, '\\x00')", "pg_largeobject"),
        ("SELECT lo_from_bytea(4713, '')", "pg_largeobject"),
        ("INSERT INTO nobody DEFAULT VALUES", "public.nobody"),
    ],
)
def test_one_change_changes_one_table(server, new_database, everything, statement, table):
    url = new_database(server, everything)
    before = fingerprints_of(url)
    change(url, statement)
    after = fingerprints_of(url)
    assert {name for name in before if before[name].fingerprint != after[name].fingerprint} == {table}


def test_neither_order_nor_dead_rows_nor_column_order_nor_session_matter(server, new_database):
    one = new_database(server, "CREATE TABLE t (a int, b text, c timestamptz); INSERT INTO t VALUES "
                               "(1, 'x', '2024-01-01 12:00Z'), (2, NULL, 'infinity'), (3, '', NULL)")  # fmt: skip
    two = new_database(server, "CREATE TABLE t (gone int, c timestamptz, b text, a int); ALTER TABLE t DROP gone; "
                               "INSERT INTO t (a, b, c) VALUES (9, 'dead', NULL), (3, '', NULL), (2, NULL, 'infinity'),"
                               "(1, 'x', '2024-01-01 12:00Z'); DELETE FROM t WHERE a = 9")  # fmt: skip
    name = two.rpartition("/")[2]
    change(two, f"ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'")
    change(two, f"ALTER DATABASE {name} SET datestyle = 'German'")
    assert fingerprints_of(one) == fingerprints_of(two)


def test_the_fingerprint_is_computed_as_documented(server, new_database):
    url = new_database(server, "CREATE TABLE t (b text, a int); INSERT INTO t VALUES ('x y', 1), (NULL, 2), ('é\"', 3)")
    rows = ['(1,"x y")', "(2,)", '(3,"é""")']
    lanes = [0, 0]
    for row in rows:
        digest = hashlib.sha256(row.encode("utf-8")).digest()
        lanes = [
            (lane + int.from_bytes(digest[at : at + 8], "big")) % 2**64 for lane, at in zip(lanes, (0, 8), strict=True)
        ]
    expected = "pg1:" + "".join(f"{lane:016x}" for lane in lanes)
    assert fingerprints_of(url)["public.t"].fingerprint == expected == fingerprint(reversed(rows))


def test_the_encoding_of_the_database_does_not_matter(server, new_database):
    script = "CREATE TABLE t (a text); INSERT INTO t VALUES ('é ü ß')"
    utf8 = new_database(server, script)
    change(server.address(), "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
    change(server.address("latin"), script)
    assert fingerprints_of(utf8)["public.t"] == fingerprints_of(server.address("latin"))["public.t"]


def test_bytes_of_no_known_encoding_are_hashed_as_they_are(server):
    change(server.address(), "CREATE DATABASE raw ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'")
    with psycopg.connect(server.address("raw"), autocommit=True, client_encoding="SQL_ASCII") as session:
        session.execute(b"CREATE TABLE t (a text); INSERT INTO t VALUES (convert_from('\\xff41', 'SQL_ASCII'))")
    assert fingerprints_of(server.address("raw"))["public.t"].rows == 1


def test_tables_that_may_not_be_read_are_named(server, new_database):
    url = new_database(
        server, "CREATE TABLE open_one (a int); CREATE TABLE closed_one (a int); CREATE TABLE closed_too ()"
    )
    change(url, "DROP ROLE IF EXISTS reader")
    change(url, "CREATE ROLE reader LOGIN PASSWORD 'r'; GRANT SELECT ON open_one TO reader")
    login = Login(database=url.replace(f"postgres:{server.password}", "reader:r"))
    with login.address().session() as session, pytest.raises(PermanentError) as caught:
        require_readable(relations(session), login.address())
    assert "public.closed_one, public.closed_too" in caught.value.what and "open_one" not in caught.value.what
    assert "GRANT SELECT" in caught.value.hint


def test_rows_that_are_hidden_from_the_role_are_no_small_backup(server, new_database):
    url = new_database(server, "CREATE TABLE t (a int); ALTER TABLE t ENABLE ROW LEVEL SECURITY")
    change(url, "DROP ROLE IF EXISTS half_blind")
    change(url, "CREATE ROLE half_blind LOGIN PASSWORD 'r'; GRANT SELECT ON t TO half_blind")
    with pytest.raises(PermanentError) as caught:
        fingerprints_of(url.replace(f"postgres:{server.password}", "half_blind:r"))
    assert "row level security" in caught.value.what and "BYPASSRLS" in caught.value.hint
