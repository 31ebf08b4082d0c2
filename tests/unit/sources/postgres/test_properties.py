"""Properties of a database: restored with a database that was dropped; a living one keeps its own."""

from __future__ import annotations

import psycopg
import pytest
from postgres_items import ID, ITEMS, ask, back_up, databases, unpack

from scriptorium.sources.postgres.source import PostgresSource

ABOUT = """
SELECT pg_get_userbyid(datdba), datacl::text, datconnlimit, datistemplate, shobj_description(d.oid, 'pg_database'),
    pg_encoding_to_char(encoding), datcollate, datctype,
    ARRAY(SELECT coalesce(r.rolname, '*') || ': ' || s.setconfig::text FROM pg_db_role_setting s
          LEFT JOIN pg_roles r ON r.oid = s.setrole WHERE s.setdatabase = d.oid ORDER BY 1)
FROM pg_database d WHERE datname = """
ROLES = ("property_owner", "property_reader", "property_stranger")


@pytest.fixture
def dressed(server, new_database, tmp_path):
    """A database with everything set on it that can be: (source, url, name)."""
    url = new_database(server, ITEMS)
    name = url.rpartition("/")[2]
    for role in ROLES:
        ask(url, f"DO $$BEGIN CREATE ROLE {role} LOGIN PASSWORD 'x'; EXCEPTION WHEN duplicate_object THEN END$$")
    for statement in (
        f"ALTER DATABASE {name} OWNER TO property_owner",
        f"REVOKE ALL ON DATABASE {name} FROM PUBLIC",
        f"GRANT CONNECT ON DATABASE {name} TO property_reader WITH GRANT OPTION",
        f"COMMENT ON DATABASE {name} IS E'it''s; \\\\ \"the\" books\\n-- of all'",
        f"ALTER DATABASE {name} CONNECTION LIMIT 7",
        f"ALTER DATABASE {name} IS_TEMPLATE true",
        f"ALTER DATABASE {name} SET search_path = app, public",
        f"ALTER DATABASE {name} SET work_mem = '9MB'",
        f"ALTER DATABASE {name} SET app.banner = E'first; line\\nsecond ''line'''",
        f"ALTER DATABASE {name} SET default_transaction_read_only = on",
        f"ALTER DATABASE {name} SET statement_timeout = '30s'",
        f"ALTER DATABASE {name} SET standard_conforming_strings = off",
        f"ALTER ROLE property_reader IN DATABASE {name} SET statement_timeout = '5s'",
        f"ALTER ROLE property_owner IN DATABASE {name} SET app.own = 'x'",
    ):
        ask(server.address(), statement)
    yield PostgresSource(database=url, tools=server.programs, staging=tmp_path / "staging"), url, name
    for one in databases(server, name):
        ask(server.address(), f"ALTER DATABASE {one} IS_TEMPLATE false")


def _brought(source, staged, part):
    incoming = source.incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    incoming.load()
    incoming.switch()
    incoming.finish()
    return incoming


def test_a_dropped_database_is_restored_with_all_that_was_set_on_it(dressed, server, tmp_path):
    source, url, name = dressed
    before = ask(server.address(), f"{ABOUT}'{name}'")
    staged, part = back_up(source, tmp_path / "stage")
    ask(server.address(), f"ALTER DATABASE {name} IS_TEMPLATE false")
    ask(server.address(), f"DROP DATABASE {name}")
    incoming = _brought(source, staged, part)
    assert incoming.warnings == ()
    assert ask(server.address(), f"{ABOUT}'{name}'") == before
    assert ask(url, "SELECT count(*) FROM public.items") == [(2000,)]
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(url, user="property_stranger", password="x")


def test_a_setting_that_loads_a_program_is_left_out_by_name(server, new_database, tmp_path):
    url = new_database(server, ITEMS)
    name = url.rpartition("/")[2]
    ask(server.address(), f"ALTER DATABASE {name} SET session_preload_libraries = 'plpgsql'")
    source = PostgresSource(database=url, tools=server.programs, staging=tmp_path / "staging")
    staged, part = back_up(source, tmp_path / "stage")
    ask(server.address(), f"DROP DATABASE {name}")
    incoming = _brought(source, staged, part)
    assert len(incoming.warnings) == 1 and "session_preload_libraries" in incoming.warnings[0]


def test_a_living_database_keeps_what_is_set_on_it_now(dressed, server, tmp_path):
    source, _, name = dressed
    staged, part = back_up(source, tmp_path / "stage")
    ask(server.address(), f"ALTER DATABASE {name} CONNECTION LIMIT 9")
    ask(server.address(), f"ALTER DATABASE {name} SET work_mem = '11MB'")
    ask(server.address(), f"COMMENT ON DATABASE {name} IS 'another'")
    before = ask(server.address(), f"{ABOUT}'{name}'")
    _brought(source, staged, part)
    assert ask(server.address(), f"{ABOUT}'{name}'") == before


def test_a_setting_that_only_the_administrator_may_set_is_left_out_by_name(server, new_database, tmp_path):
    url = new_database(server, ITEMS)
    name = url.rpartition("/")[2]
    ask(
        url,
        "DO $$BEGIN CREATE ROLE property_maker LOGIN CREATEDB PASSWORD 'x'; EXCEPTION WHEN duplicate_object THEN END$$",
    )
    ask(server.address(), f"ALTER DATABASE {name} OWNER TO property_maker")
    ask(url, "ALTER TABLE items OWNER TO property_maker")
    ask(server.address(), f"ALTER DATABASE {name} SET log_min_duration_statement = 1000")
    ask(server.address(), f"ALTER DATABASE {name} SET work_mem = '9MB'")
    own = f"postgresql://property_maker:x@127.0.0.1:{server.port}/{name}"
    source = PostgresSource(database=own, tools=server.programs, staging=tmp_path / "staging")
    staged, part = back_up(source, tmp_path / "stage")
    assert "log_min_duration_statement" in source.preconditions(part)["settings of the database"]()
    incoming = _brought(source, staged, part)
    assert len(incoming.warnings) == 1 and "log_min_duration_statement" in incoming.warnings[0]
    settings = ask(server.address(), f"{ABOUT}'{name}'")[0][-1]
    assert settings == ["*: {work_mem=9MB}"]
