"""The section after the data is restored in two steps, and the result is an equal database."""

from __future__ import annotations

import subprocess

import pytest
from postgres_items import ID, ask, schema, unpack

from scriptorium.sources.postgres.embedded import major_version
from scriptorium.sources.postgres.fingerprint import relations, take_fingerprints
from scriptorium.sources.postgres.programs import find
from scriptorium.sources.postgres.restore.pg_restore import Restorer
from scriptorium.sources.postgres.source import PostgresSource

ORDINARY = """
CREATE TABLE t (id int PRIMARY KEY, name text NOT NULL, "Odd  name" text UNIQUE);
CREATE INDEX names ON t (lower(name)); COMMENT ON INDEX names IS 'by name';
CREATE UNIQUE INDEX "odd; INDEX public x" ON t (name, id);
ALTER TABLE t REPLICA IDENTITY USING INDEX "odd; INDEX public x";
CREATE INDEX near ON t (id DESC); ALTER TABLE t CLUSTER ON near;
CREATE STATISTICS both_columns ON id, name FROM t;
CREATE UNIQUE INDEX target ON t (id, "Odd  name");
CREATE TABLE child (x int REFERENCES t, a int, b text, FOREIGN KEY (a, b) REFERENCES t (id, "Odd  name"));
CREATE TABLE logs (at date NOT NULL, what text) PARTITION BY RANGE (at);
CREATE TABLE logs_2024 PARTITION OF logs FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE INDEX ON logs (what); ALTER TABLE logs ADD PRIMARY KEY (at);
CREATE FUNCTION noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER watch BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION noop();
CREATE RULE quiet AS ON DELETE TO child DO INSTEAD NOTHING;
ALTER TABLE child ENABLE ROW LEVEL SECURITY; CREATE POLICY everyone ON child USING (true);
CREATE MATERIALIZED VIEW names_only AS SELECT name FROM t; CREATE INDEX ON names_only (name);
INSERT INTO t SELECT g, 'n' || g, 'o' || g FROM generate_series(1, 3000) g;
INSERT INTO child SELECT g, g, 'o' || g FROM generate_series(1, 500) g;
INSERT INTO logs SELECT date '2024-01-01' + g, 'w' FROM generate_series(1, 90) g;
REFRESH MATERIALIZED VIEW names_only;
"""
TANGLED = """
CREATE TABLE t (id int PRIMARY KEY, name text);
CREATE INDEX names ON t (name);
INSERT INTO t SELECT g, 'n' || g FROM generate_series(1, 100) g;
CREATE MATERIALIZED VIEW grouped AS SELECT id, name, count(*) AS many FROM t GROUP BY id;
CREATE UNIQUE INDEX grouped_ids ON grouped (id);
"""


@pytest.mark.parametrize(("script", "steps"), [(ORDINARY, 2), (TANGLED, 1)], ids=["ordinary", "tangled"])
@pytest.mark.parametrize(("form", "jobs"), [("directory", 1), ("custom", 3)])
def test_the_database_is_the_same(every_server, new_database, tmp_path, script, steps, form, jobs):
    if jobs > 1:  # making both of its indexes at once is what pg_restore can lock itself out with
        script = script.replace("ALTER TABLE t CLUSTER ON near;", "")
    url, target = new_database(every_server, script), new_database(every_server)
    dump = tmp_path / "dump"
    subprocess.run([every_server.programs / "pg_dump", f"--format={form}", f"--file={dump}", url], check=True)
    address, major = PostgresSource(database=target).address(), major_version(every_server.programs)
    program = find("pg_restore", major, tools=every_server.programs)
    restorer = Restorer(program, address, major, jobs)
    with restorer._steps(dump) as (first, last):
        assert bool(first) == (steps == 2)
        assert last
    with PostgresSource(database=url).address().session() as session:
        expected = take_fingerprints(session, relations(session)).tables
    assert restorer.beside(dump, expected) == expected
    assert schema(every_server.programs, target) == schema(every_server.programs, url)


def test_processes_that_lock_each_other_out_are_followed_by_one_alone(library, server, tmp_path):
    source, staged, part, url, _ = library
    tools = tmp_path / "tools"
    tools.mkdir()
    script = (
        f'#!/bin/sh\nreal={server.programs}/pg_restore\necho "$*" >> {tmp_path}/calls\n'
        'case "$*" in *--jobs=2*post-data*--dbname*) echo "pg_restore: error: could not execute query: '
        'ERROR:  deadlock detected" >&2; exit 1;; esac\nexec $real "$@"\n'
    )
    (tools / "pg_restore").write_text(script)
    (tools / "pg_restore").chmod(0o755)
    incoming = source.model_copy(update={"tools": tools, "jobs": 2}).incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    assert incoming.load() == part.tables
    calls = (tmp_path / "calls").read_text()
    assert "--jobs=2" in calls and "--jobs=1" in calls
    incoming.undo()
    assert ask(url, "SELECT count(*) FROM items") == [(11,)]
