"""Few connections, few rights: the work is done with what there is, or an error names beforehand what is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from postgres_items import ID, ITEMS, ask, back_up, unpack

from scriptorium.errors import PermanentError, SourceUnavailable
from scriptorium.sources.postgres.source import PostgresSource


@pytest.fixture
def limited(server, new_database, tmp_path):
    """A database of an ordinary role: (source, name)."""
    url = new_database(server, ITEMS + "CREATE TABLE more AS SELECT * FROM items; CREATE INDEX ON more (title);")
    name = url.rpartition("/")[2]
    ask(url, "DO $$BEGIN CREATE ROLE limited LOGIN CREATEDB PASSWORD 'x'; EXCEPTION WHEN duplicate_object THEN END$$")
    ask(server.address(), f"ALTER DATABASE {name} OWNER TO limited")
    ask(url, "ALTER TABLE items OWNER TO limited; ALTER TABLE more OWNER TO limited")
    yield (
        PostgresSource(
            database=f"postgresql://limited:x@127.0.0.1:{server.port}/{name}",
            tools=server.programs,
            staging=tmp_path / "staging",
            jobs=4,
        ),
        name,
    )
    ask(server.address(), "ALTER ROLE limited CONNECTION LIMIT -1")


@pytest.mark.parametrize(("whose", "limit"), [("DATABASE {}", 2), ("DATABASE {}", 4), ("ROLE limited", 2)])
def test_two_connections_are_enough(limited, server, tmp_path, whose, limit):
    source, name = limited
    ask(server.address(), f"ALTER {whose.format(name)} CONNECTION LIMIT {limit}")
    staged, part = back_up(source, tmp_path / "stage")
    incoming = source.incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    assert incoming.load() == part.tables
    incoming.switch()
    incoming.finish()


def test_one_connection_is_too_few_and_the_limit_is_named(limited, server, tmp_path):
    source, name = limited
    ask(server.address(), f"ALTER DATABASE {name} CONNECTION LIMIT 1")
    with pytest.raises(SourceUnavailable, match="CONNECTION LIMIT") as caught:
        back_up(source, tmp_path / "stage")
    assert "is it running" not in caught.value.hint
    ask(server.address(), f"ALTER DATABASE {name} CONNECTION LIMIT 0")
    with pytest.raises(SourceUnavailable, match="connection limit is reached"):
        back_up(source, tmp_path / "again")


def test_large_objects_of_others_are_named_before_the_dump(limited, server, tmp_path):
    source, name = limited
    url = server.address(name)
    ask(url, "SELECT lo_from_bytea(4711, 'cover'), lo_from_bytea(4712, '')")
    with pytest.raises(PermanentError, match="4711") as caught:
        back_up(source, tmp_path / "stage")
    assert "GRANT SELECT ON LARGE OBJECT" in caught.value.hint
    ask(url, "GRANT SELECT ON LARGE OBJECT 4711, 4712 TO limited")
    assert back_up(source, tmp_path / "again")[1].tables["pg_largeobject"].rows == 2


def test_an_extension_that_only_a_superuser_can_make_is_named_before_anything_is_made(limited, server, tmp_path):
    source, name = limited
    closed = ask(
        server.address(),
        "SELECT e.name FROM pg_available_extensions e JOIN pg_available_extension_versions v ON v.name = e.name "
        "AND v.version = e.default_version WHERE v.superuser AND NOT v.trusted AND v.requires IS NULL "
        "AND e.name <> 'plpgsql' AND e.name !~ 'python|perl|tcl' ORDER BY e.name = 'pageinspect' DESC LIMIT 1",
    )
    if not closed:
        pytest.skip("this server has no such extension")
    ask(server.address(name), f'CREATE EXTENSION "{closed[0][0]}"')
    staged, part = back_up(source, tmp_path / "stage")
    with pytest.raises(PermanentError, match="only a superuser") as caught:
        source.preconditions(part)["roles, tablespaces, extensions"]()
    assert closed[0][0] in caught.value.what
    older = replace(part, provenance=replace(part.provenance, extensions=()))  # nothing was recorded
    assert closed[0][0] in source.preconditions(older)["roles, tablespaces, extensions"]()
    incoming = source.incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    with pytest.raises(PermanentError, match="only a superuser") as caught:
        incoming.load()
    assert closed[0][0] in caught.value.what
