"""Drills of an Alexandria library: proven on its own server, and on a server of the drill's own."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import real_backup
from postgres_items import ask

from scriptorium.catalog import Catalog
from scriptorium.demo.alexandria import build_alexandria
from scriptorium.errors import PermanentError, SourceDamaged, SourceUnavailable, ToolFailed, ToolMissing
from scriptorium.model import Annotations, Proof
from scriptorium.operations.drill import drill
from scriptorium.operations.prune import carry_out
from scriptorium.operations.prune_plan import plan_cleanup
from scriptorium.requests import DrillRequest
from scriptorium.settings import Settings, load
from scriptorium.words import BackupType, Status

DIFFERENT = "files that are not what the database records"
NAMED = "files that the database names and the backup lacks"


@pytest.fixture
def library(server, new_database, tmp_path: Path):
    url = new_database(server)
    build_alexandria(url, tmp_path / "home", items=120, files=20)
    return url


def settings_for(url: str, folder: Path, drill: str) -> Settings:
    parts = urlsplit(url)
    file = folder / "scriptorium.toml"
    file.write_text(
        '[libraries.alexandria]\npreset = "alexandria"\nfiles = "home/library"\n'
        f'database = "{parts._replace(netloc=f"{parts.username}@{parts.hostname}:{parts.port}").geturl()}"\n'
        f'postgres = {{ password = "{parts.password}", drill = "{drill}" }}\n'
        '[stores.local]\nkind = "local"\npath = "backups"\n'
    )
    return load(file, {})


def refusing(programs: Path, folder: Path) -> Path:
    """Programs of PostgreSQL whose pg_restore cannot make what a dump begins with."""
    folder.mkdir()
    for name in ("pg_dump", "pg_dumpall", "pg_restore", "psql"):
        failing = """echo 'pg_restore: error: relation "rates" does not exist' >&2; exit 1"""
        refused = f'case "$*" in *section=pre-data*--dbname*) {failing};; esac\n'
        script = f'#!/bin/sh\n{refused if name == "pg_restore" else ""}exec {programs / name} "$@"\n'
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    return folder


def database_alone(server, url: str, folder: Path, more: str = "", programs: Path | None = None) -> Settings:
    file = folder / "scriptorium.toml"
    file.write_text(
        f'[libraries.l]\nsources = [{{ name = "pg", kind = "postgres", database = "{url}",'
        f' tools = "{programs or server.programs}"{more} }}]\n[stores.local]\nkind = "local"\npath = "backups"\n'
    )
    return load(file, {})


def drilled(settings: Settings):
    return drill(settings, DrillRequest()).proof


@pytest.mark.parametrize("drill", ["server", "embedded"])
def test_a_drill_proves_database_files_and_how_they_fit(library, server, tmp_path, drill):
    settings = settings_for(library, tmp_path, drill)
    real_backup.take(settings, datetime.now(UTC))
    proof = drilled(settings)
    assert proof.proven, proof.differences
    assert proof.tables >= 17 and proof.rows > 120
    checks = {check.name: check for check in proof.checks}
    assert checks[NAMED].good
    assert checks[DIFFERENT].good
    own = urlsplit(library).path.strip("/")
    with psycopg.connect(server.address(), autocommit=True) as session:
        names = session.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", (f"{own}%",)).fetchall()
    left = [name for (name,) in names if name != own and not name.removeprefix(own)[0].isdigit()]
    assert left == []


def test_a_book_that_is_not_what_the_database_records_is_named(library, tmp_path):
    settings = settings_for(library, tmp_path, "server")
    books = sorted(path for path in (tmp_path / "home" / "library").rglob("*") if path.is_file())
    with psycopg.connect(library) as session:
        named = {row[0] for row in session.execute("SELECT file_path FROM files").fetchall()}
    gone, spoiled = [book for book in books if str(book.relative_to(tmp_path / "home" / "library")) in named][:2]
    gone.unlink()
    spoiled.write_bytes(spoiled.read_bytes()[::-1])
    real_backup.take(settings, datetime.now(UTC))
    proof = drilled(settings)
    first = {check.name: check.first for check in proof.checks}
    relative = [str(path.relative_to(tmp_path / "home" / "library")) for path in (gone, spoiled)]
    assert first[NAMED] == (relative[0],)
    assert first[DIFFERENT] == (relative[1],)
    assert proof.proven, "the backup is what the library was"


def test_a_book_that_is_a_link_to_a_file_of_the_backup_is_there(library, tmp_path):
    settings = settings_for(library, tmp_path, "server")
    folder = tmp_path / "home" / "library"
    one, two = sorted(path for path in folder.rglob("*.epub") if path.parent.name != ".returns")[:2]
    real = one.rename(one.with_name("real.bin"))
    one.symlink_to(real.name)
    (folder / ".first of two names").hardlink_to(two)  # packed before the book, whose contents are then this one's
    checks = {check.name: check for check in real_backup.take(settings, datetime.now(UTC)).checks}
    assert checks[NAMED].count == checks[DIFFERENT].count == 0
    real.write_bytes(b"something else")
    later = datetime.now(UTC) + timedelta(hours=1)
    checks = {check.name: check for check in real_backup.take(settings, later).checks}
    assert checks[DIFFERENT].first == (str(one.relative_to(folder)),)


def test_a_backup_and_a_cleanup_during_a_drill_do_not_touch_it(library, server, tmp_path):
    settings = settings_for(library, tmp_path, "server")
    real_backup.take(settings, datetime.now(UTC))
    did = []

    def meanwhile(_: int) -> None:
        if not did:
            did.append(True)
            real_backup.take(settings, datetime.now(UTC), name="meanwhile")
            carry_out(settings, "alexandria", plan_cleanup(settings, "alexandria"))

    proof = drill(settings, DrillRequest(), advance=meanwhile).proof
    assert did and proof.proven, proof.differences


def test_books_that_are_all_gone_are_missing_as_one_is(library, tmp_path):
    settings = settings_for(library, tmp_path, "server")
    folder = tmp_path / "home" / "library"
    shutil.rmtree(folder)
    folder.mkdir()
    manifest = real_backup.take(settings, datetime.now(UTC) - timedelta(hours=1))
    checks = {check.name: check for check in manifest.checks}
    assert checks[NAMED].count == 20 and not checks[NAMED].good
    assert set(manifest.checks) < set(drilled(settings).checks), "and the checks that the database makes itself"
    bare = real_backup.take(settings, datetime.now(UTC), type=BackupType.DATABASE)
    assert [check.name for check in bare.checks] == ["items without a file"], "it holds no files by intention"
    file = tmp_path / "scriptorium.toml"
    file.write_text(file.read_text().replace("[stores", 'missing_files = "error"\n[stores', 1))
    with pytest.raises(SourceDamaged, match="lacks: 20"):
        real_backup.take(load(file, {}), datetime.now(UTC) + timedelta(hours=1))


def test_a_dump_that_cannot_be_restored_is_a_verdict_in_place_of_an_older_proof(server, new_database, tmp_path):
    url = new_database(server, "CREATE TABLE rates (k int PRIMARY KEY, v int)")
    settings = database_alone(server, url, tmp_path, programs=refusing(server.programs, tmp_path / "programs"))
    manifest = real_backup.take(settings, datetime.now(UTC))
    copy = Catalog(settings).find("latest").copies[0]
    older = Proof(manifest.created_at, "local", True, 1.0, 1.0, 1, 1, 1, 1)
    settings.store("local").annotate(copy.key, Annotations(proof=older))
    assert Catalog(settings).find("latest").status is Status.PROVEN
    proof = drill(settings, DrillRequest()).proof
    assert not proof.proven and 'relation "rates" does not exist' in proof.differences[0]
    (found,) = Catalog(settings).backups()
    assert found.status is Status.DAMAGED and found.copies[0].damage == proof.differences
    assert Catalog(settings).proof(found.copies[0]) == proof


@pytest.mark.parametrize(
    ("lacking", "error"),
    [("a role", PermanentError), ("a program", ToolMissing), ("a server", SourceUnavailable), ("memory", ToolFailed)],
)
def test_what_is_no_fault_of_the_backup_leaves_its_proof(server, new_database, tmp_path, lacking, error):
    url, role = new_database(server, "CREATE TABLE shelf (id int)"), f"drill_{os.getpid()}"
    with psycopg.connect(url, autocommit=True) as session:
        session.execute(f"CREATE ROLE {role}; GRANT SELECT ON shelf TO {role}")
        settings = database_alone(server, url, tmp_path)
        try:
            real_backup.take(settings, datetime.now(UTC))
            before = drilled(settings)
        finally:
            session.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    assert before.proven
    file, tools = tmp_path / "scriptorium.toml", tmp_path / "bin"
    tools.mkdir()
    if lacking == "memory":  # the system ended it
        killed = (
            f'#!/bin/sh\ncase "$*" in *--dbname*) kill -KILL $$;; esac\nexec {server.programs / "pg_restore"} "$@"\n'
        )
        (tools / "pg_restore").write_text(killed)
        (tools / "pg_restore").chmod(0o755)
    if lacking in ("a program", "memory"):
        file.write_text(file.read_text().replace(f'tools = "{server.programs}"', f'tools = "{tools}"'))
    if lacking == "memory":
        file.write_text(file.read_text().replace(" }]", ", without_roles = true }]"))
    if lacking == "a server":
        file.write_text(file.read_text().replace(f":{urlsplit(url).port}/", ":1/"))
    settings = load(file, {})
    with pytest.raises(error) as raised:
        drilled(settings)
    assert type(raised.value) is error
    (found,) = Catalog(settings).backups()
    assert found.status is Status.PROVEN and Catalog(settings).proof(found.copies[0]) == before


def test_the_check_of_a_database_is_part_of_its_drill(server, new_database, tmp_path):
    """The contents are equal, so what the check finds was in the library too: it is reported, and is no difference."""
    url = new_database(server, "CREATE TABLE shelf (id int); INSERT INTO shelf VALUES (1)")
    settings = database_alone(server, url, tmp_path)
    real_backup.take(settings, datetime.now(UTC) - timedelta(hours=1))
    (check,) = drilled(settings).checks
    assert str(check) == "database check of pg: none" and check.good
    ask(url, "ALTER TABLE shelf ADD CONSTRAINT small CHECK (id < 0) NOT VALID")
    real_backup.take(settings, datetime.now(UTC))
    proof = drilled(settings)
    assert [str(one) for one in proof.checks] == [
        "database check of pg: 1 (unchecked constraint: public.shelf: small (it holds for new rows only; "
        "ALTER TABLE … VALIDATE CONSTRAINT checks the others))"
    ]
    assert proof.proven and not proof.checks[0].good and not proof.differences
