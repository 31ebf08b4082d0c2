"""The plan of a restore of PostgreSQL before the archive is read: programs, generations, roles, sessions."""

from __future__ import annotations

import dataclasses
import subprocess
from datetime import UTC, datetime

import psycopg
import pytest
from postgres_items import ID, ITEMS, back_up, unpack

from scriptorium.errors import RestoreFailed, ScriptoriumError, ToolMissing
from scriptorium.model import Part, Provenance
from scriptorium.sources import RestoreOptions
from scriptorium.sources.postgres.restore.preflight import Dump
from scriptorium.sources.postgres.source import PostgresSource

_NOW = datetime(2026, 3, 1, tzinfo=UTC)


def dumped_by(major: int, made: Provenance | None = None) -> Part:
    part = Part("postgres", "postgres", "postgres", 0, 0, _NOW, _NOW, "pg_dump", f"{major}.1")
    return dataclasses.replace(part, provenance=made or Provenance(dumper=f"{major}.1"))


def rows_of(source: PostgresSource, part: Part, **chosen: bool) -> dict[str, str]:
    return {what: check() for what, check in source.preconditions(part, RestoreOptions.chosen(chosen)).items()}


def test_sessions_roles_and_generations_are_reported(server_of, new_database):
    url = new_database(server_of(15), ITEMS)
    source = PostgresSource(database=url)
    with psycopg.connect(url), psycopg.connect(url):
        rows = rows_of(source, dumped_by(15))
        assert rows["sessions"].startswith("2 open in library_") and "ended at the switch" in rows["sessions"]
        assert "before anything is replaced" in rows["roles, tablespaces, extensions"]
        assert "are left out" in rows_of(source, dumped_by(15), without_roles=True)["roles, tablespaces, extensions"]
        assert "waits" in rows_of(source, dumped_by(15), clean=True)["sessions"]
    assert rows_of(source, dumped_by(15))["sessions"].startswith("none open")
    assert "sessions" not in source.renamed("other").preconditions(dumped_by(15)), "nobody is in a new database"


def test_a_dump_of_a_newer_generation_is_restored_by_the_program_that_reads_it(server_of, new_database, tmp_path):
    """Measured: an older server takes it, table by table, but no older pg_restore can read it."""
    staged, bare = back_up(PostgresSource(database=new_database(server_of(18), ITEMS)), tmp_path / "backup")
    part = dataclasses.replace(bare, engine_version=staged.engine_version)
    old = server_of(15)
    source = PostgresSource(database=new_database(old), staging=tmp_path / "staging")
    found = rows_of(source, part)["pg_restore"]
    assert "(18." in found and "older than that of the dump (18." in found
    incoming = source.incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    assert incoming.load() == part.tables
    incoming.undo()


@pytest.mark.parametrize("writer", [15, 16, 18])
def test_which_programs_read_which_dump(server_of, new_database, tmp_path, writer):
    source = PostgresSource(database=new_database(server_of(writer)), tools=server_of(writer).programs)
    staged, part = back_up(source, tmp_path / "backup")
    (dump,) = [path.parent for path in (tmp_path / "backup").rglob("toc.dat")]
    for reader in (15, 16, 18):
        argv = [server_of(reader).programs / "pg_restore", "--list", dump]
        able = subprocess.run(argv, capture_output=True).returncode == 0
        assert able == (reader >= Dump.of(part).reader), (writer, reader, staged.method)


def test_a_dump_that_no_program_here_reads_is_reported_before_anything_is_saved(server_of, new_database, tmp_path):
    source = PostgresSource(database=new_database(server_of(15)), staging=tmp_path)
    only_old = source.model_copy(update={"tools": server_of(15).programs})

    def refused(by: PostgresSource, part: Part, kind: type[ScriptoriumError], **chosen: bool) -> str:
        with pytest.raises(kind) as caught:
            by.preconditions(part, RestoreOptions.chosen(chosen))["pg_restore"]()
        return f"{caught.value}; {caught.value.hint}"

    assert "pg_dump 18 wrote" in refused(only_old, dumped_by(18), ToolMissing)
    assert "postgresql-client-16" in refused(only_old, dumped_by(16), ToolMissing)
    adopted = dumped_by(18, Provenance(adopted=True, dumper="18.4"))
    assert "pg_dump 18 wrote" in refused(only_old, adopted, ToolMissing)
    assert "pg_dump 99 wrote" in refused(source, dumped_by(99), ToolMissing)
    assert "CREATEDB" in refused(source, dumped_by(18), RestoreFailed, clean=True)
    script = dumped_by(18, Provenance(adopted=True, dumper="18.4", script=True))
    assert "psql" in rows_of(only_old, script)["psql"], (
        "of SQL, the one word that an older server does not know is left out"
    )
    assert rows_of(only_old, dumped_by(15))["pg_restore"].startswith(f"{server_of(15).programs}/pg_restore")
    unknown = dataclasses.replace(dumped_by(15), provenance=Provenance(), engine_version=None)
    assert rows_of(only_old, unknown)["pg_restore"]
