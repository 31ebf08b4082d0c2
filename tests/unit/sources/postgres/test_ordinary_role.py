"""The role of most applications: it owns its database, may make others, and is no superuser."""

from __future__ import annotations

import pytest
from postgres_items import ID, ITEMS, ask, back_up, databases, unpack

from scriptorium.sources.postgres.source import PostgresSource


@pytest.fixture
def owner(server, new_database):
    """The URL of a database of such a role."""
    url = new_database(server)
    name = url.rpartition("/")[2]
    ask(url, f"CREATE ROLE owner_of_{name} LOGIN CREATEDB PASSWORD 'p'")
    ask(url, f"ALTER DATABASE {name} OWNER TO owner_of_{name}; ALTER SCHEMA public OWNER TO owner_of_{name}")
    return url.replace(f"postgres:{server.password}", f"owner_of_{name}:p")


def test_it_restores_beside_its_database_and_undoes_that(owner, server, tmp_path):
    ask(owner, ITEMS)
    source = PostgresSource(database=owner, tools=server.programs, staging=tmp_path / "staging")
    staged, part = back_up(source, tmp_path / "stage")
    ask(owner, "DELETE FROM items WHERE id > 10")
    incoming = source.incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    assert incoming.load() == part.tables
    incoming.switch()
    assert ask(owner, "SELECT count(*) FROM items") == [(2000,)]
    incoming.undo()
    assert ask(owner, "SELECT count(*) FROM items") == [(10,)]
    name = owner.rpartition("/")[2]
    assert databases(server, name) == {name}
