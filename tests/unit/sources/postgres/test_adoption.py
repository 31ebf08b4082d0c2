"""Dumps that other programs made of an Alexandria: adopted, listed, verified, restored on a real server, compared."""

from __future__ import annotations

import gzip
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import real_backup

from scriptorium.catalog import Catalog
from scriptorium.errors import DamageFound, ScriptoriumError, UnsafeArchive, UsageError
from scriptorium.monitoring.statistics import stats
from scriptorium.operations.adopt import adopt as adopt_each
from scriptorium.operations.database import restore_database
from scriptorium.operations.drill import drill
from scriptorium.operations.export import plan_export
from scriptorium.operations.restore import restore
from scriptorium.operations.verify import verify_stored
from scriptorium.report.backups import backup_row
from scriptorium.report.drill import proof_fields
from scriptorium.report.statistics import statistics_document
from scriptorium.requests import AdoptRequest, DrillRequest, ExportRequest, RestoreRequest
from scriptorium.rescue.inventory import inventory
from scriptorium.settings import Settings, load
from scriptorium.sources.postgres.fingerprint import relations, take_fingerprints
from scriptorium.sources.postgres.source import PostgresSource
from scriptorium.words import BackupType, Status
from tests.shared.adoption import adopt

BOOKS = """
CREATE TABLE items (id serial PRIMARY KEY, title text NOT NULL, parent int REFERENCES items);
INSERT INTO items (title, parent) SELECT E'a "title"\\n\\\\n é ' || g, nullif(g - 1, 0) FROM generate_series(1, 500) g;
CREATE MATERIALIZED VIEW titles AS SELECT title FROM items;
"""
FORMS = ("custom", "directory", "tar", "sql", "sql.gz")


@dataclass(frozen=True)
class Alexandria:
    """A database, the settings that protect it, and its fingerprints."""

    url: str
    folder: Path
    programs: Path

    def settings(self, **more: object) -> Settings:
        words = "".join(f", {key} = {str(value).lower()}" for key, value in more.items())
        (self.folder / "scriptorium.toml").write_text(
            "[libraries.alexandria]\n"
            f'sources = [{{ name = "postgres", kind = "postgres", database = "{self.url}", tools = "{self.programs}",'
            f' staging = "{self.folder}"{words} }}, {{ name = "library", kind = "files", path = "library" }}]\n\n'
            '[stores.local]\nkind = "local"\npath = "backups"\n'
        )
        return load(self.folder / "scriptorium.toml", {})

    def dump(self, form: str) -> Path:
        """As ``librarian backup`` writes it: plain calls of pg_dump."""
        name = {"custom": "weekly.dump", "directory": "weekly", "tar": "weekly.tar"}.get(form, "weekly.sql")
        kind = {"custom": ["-Fc", "-Z6"], "directory": ["-Fd"], "tar": ["-Ft"]}.get(form, [])
        argv = [self.programs / "pg_dump", *kind, f"--file={self.folder / name}", self.url]
        subprocess.run(argv, check=True, env={**os.environ, "TZ": "UTC"})
        file = self.folder / name
        if form == "sql.gz":
            packed = self.folder / "weekly.sql.gz"
            packed.write_bytes(gzip.compress(file.read_bytes()))
            return packed
        return file

    def fingerprints(self) -> dict[str, object]:
        with PostgresSource(database=self.url).address().session() as session:
            return dict(take_fingerprints(session, relations(session), expected=None).tables)

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as session:
            session.execute(statement)  # type: ignore[call-overload]


@pytest.fixture
def alexandria(server, new_database: Callable[..., str], tmp_path: Path) -> Alexandria:
    (tmp_path / "library").mkdir()
    return Alexandria(new_database(server, BOOKS), tmp_path, server.programs)


@pytest.mark.parametrize("form", FORMS)
def test_a_dump_becomes_a_backup(alexandria: Alexandria, form: str) -> None:
    """Dropped, and restored beside the living database; a restore into a folder gives the original file."""
    settings, file, before = alexandria.settings(), alexandria.dump(form), alexandria.fingerprints()
    adopted = adopt(settings, file)
    (listed,) = Catalog(settings).backups()
    assert listed.type is BackupType.DATABASE and listed.name == "weekly" and listed.status is Status.VERIFIED
    assert listed.copies[0].key.startswith("alexandria/db_")
    warned = "\n".join(adopted.warnings)
    assert "cannot be compared with anything" in warned and ("SQL is a program" in warned) == form.startswith("sql")
    manifest = Catalog(settings).manifest(listed.copies[0])
    assert manifest.parts[0].engine_version and manifest.parts[0].method.startswith("adopted (pg_dump ")
    assert verify_stored(settings, listed.id, listed.copies[0]).sound
    with pytest.raises(UsageError, match="already adopted"):
        adopt(settings, file)

    restore(settings, RestoreRequest(reference=listed.id, path=alexandria.folder / "out"))
    (restored,) = [path for path in (alexandria.folder / "out" / "postgres").iterdir()]
    assert contents(restored) == contents(file) and restored.suffix == file.suffix
    alexandria.execute("DROP TABLE items CASCADE; CREATE TABLE rubbish (a int)")
    done = restore(settings, RestoreRequest(reference=listed.id, safety=False)).restored
    assert alexandria.fingerprints() == before and done.tables.items() <= before.items()


def contents(dump: Path) -> dict[str, bytes]:
    """Of a file, or of the files of a folder."""
    if not dump.is_dir():
        return {"": dump.read_bytes()}
    return {file.name: file.read_bytes() for file in dump.iterdir()}


@pytest.mark.parametrize("form", FORMS)
def test_in_one_transaction(alexandria: Alexandria, form: str) -> None:
    """For roles that may not create databases."""
    settings, file, before = alexandria.settings(in_place=True), alexandria.dump(form), alexandria.fingerprints()
    adopted = adopt(settings, file)
    alexandria.execute(
        "DELETE FROM items WHERE id > 10 AND parent IS NOT NULL AND id NOT IN (SELECT parent FROM items)"
    )
    alexandria.execute("UPDATE items SET title = 'worse'")
    restore(settings, RestoreRequest(reference=adopted.backup.id, safety=False))
    assert alexandria.fingerprints() == before


def test_an_export_without_single_tables_names_the_reason(alexandria: Alexandria) -> None:
    """And the newest backup to export from is one that has."""
    settings = alexandria.settings()
    own = real_backup.take(settings, datetime.now(UTC) - timedelta(hours=1))
    adopted = adopt(settings, alexandria.dump("custom")).backup.id
    order = plan_export(settings, ExportRequest(tables=["items"], output=str(alexandria.folder / "items.csv")))
    assert order.backup.id == own.id
    with pytest.raises(UsageError, match="adopted from another program") as refused:
        plan_export(settings, ExportRequest(reference=adopted, tables=["items"]))
    assert refused.value.on == "postgres" and "restore it" in refused.value.hint


@pytest.mark.parametrize("form", ["custom", "directory", "sql"])
def test_a_drill(alexandria: Alexandria, form: str) -> None:
    """It is restored, but there is no record to compare it with: that is no proof, and no damage."""
    settings, file = alexandria.settings(), alexandria.dump(form)
    adopted = adopt(settings, file).backup.id
    proof = drill(settings, DrillRequest(reference=adopted)).proof
    assert (proof.verdict, proof.tables, proof.rows, proof.differences) == ("not comparable", 0, 0, ())
    assert proof.uncompared == ("postgres: the backup has no fingerprints of this database",)
    assert proof.files == len(contents(file))
    (listed,) = Catalog(settings).backups()
    assert listed.status is Status.VERIFIED and listed.unrecorded == ("postgres",)
    assert listed.copies[0].proven_at is None and listed.copies[0].drilled_at == proof.at
    assert Catalog(settings).proof(listed.copies[0]) == proof
    row = backup_row(listed, proof.at)
    assert row["Status"] == "verified, no fingerprints" and row["Drilled (UTC)"].endswith(" not comparable")
    assert proof_fields(proof)["verdict"].startswith("restored, and not proven")
    (held,) = inventory(settings.store("local"))
    assert held.state == "verified"
    figures: Any = statistics_document(stats(settings))
    assert (figures["last_proof"], figures["unrecorded"]) == (None, 1)
    assert figures["by_library"]["alexandria"]["last_drill"]["verdict"] == "not comparable"


def test_an_error_in_the_sql_leaves_the_living_database(alexandria: Alexandria) -> None:
    settings, file, before = alexandria.settings(), alexandria.dump("sql"), alexandria.fingerprints()
    text = file.read_text().replace("CREATE TABLE public.items", "CREATE TABLE public.itemz", 1)
    file.write_text(text)
    adopted = adopt(settings, file)
    with pytest.raises(Exception, match="items"):
        restore(settings, RestoreRequest(reference=adopted.backup.id, safety=False))
    assert alexandria.fingerprints() == before


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("form", [form for form in FORMS if form != "directory"])
def test_cut_short(alexandria: Alexandria, form: str, share: float) -> None:
    settings, file = alexandria.settings(), alexandria.dump(form)
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)] if form != "sql" else data[: int(len(data) * share) - 250])
    with pytest.raises(DamageFound):
        adopt(settings, file)
    assert not Catalog(settings).backups()


def test_dumps_among_other_archives(alexandria: Alexandria) -> None:
    """A folder of archives may hold dumps that are folders; each is one dump, and so is a folder that is named."""
    settings = alexandria.settings()
    dump = alexandria.dump("directory")
    alexandria.dump("custom")
    (alexandria.folder / "notes").mkdir()
    found = {one.file.name: one.error for one in adopt_each(settings, AdoptRequest(paths=(alexandria.folder,)))}
    assert found == {"weekly": None, "weekly.dump": None}
    (again,) = adopt_each(settings, AdoptRequest(paths=(dump,)))
    assert again.adopted is not None and again.adopted.already


@pytest.mark.parametrize("packed", [True, False])
def test_a_folder_that_lacks_rows(alexandria: Alexandria, packed: bool) -> None:
    """pg_restore would load what is there without an error."""
    settings, file = alexandria.settings(), alexandria.folder / "weekly"
    level = "6" if packed else "0"
    subprocess.run([alexandria.programs / "pg_dump", "-Fd", f"-Z{level}", f"--file={file}", alexandria.url], check=True)
    rows = max(file.glob("[0-9]*"), key=lambda one: one.stat().st_size)
    whole = gzip.decompress(rows.read_bytes()) if packed else rows.read_bytes()
    half = b"".join(whole.splitlines(keepends=True)[:-20])
    for lacking in (half, None):
        rows.unlink()
        if lacking is not None:
            rows.write_bytes(gzip.compress(lacking) if packed else lacking)
        with pytest.raises(DamageFound, match=r"public\.items are not complete"):
            adopt(settings, file)
        with pytest.raises(DamageFound, match=r"public\.items are not complete"):
            restore_database(PostgresSource(database=alexandria.url, tools=alexandria.programs), file, clean=True)
    assert not Catalog(settings).backups()
    assert alexandria.fingerprints()["public.items"].rows == 500  # type: ignore[attr-defined]


def test_a_file_that_is_no_dump(alexandria: Alexandria) -> None:
    settings, folder = alexandria.settings(), alexandria.folder
    (folder / "twice.gz").write_bytes(gzip.compress(alexandria.dump("custom").read_bytes()))
    (folder / "tar.gz").write_bytes(gzip.compress(alexandria.dump("tar").read_bytes()))
    (folder / "all.sql").write_text("--\n-- PostgreSQL database cluster dump\n--\n")
    alexandria.dump("directory")
    for name, why, way in (
        ("twice.gz", "compressed once more", "gunzip"),
        ("tar.gz", "compressed once more", "gunzip"),
        ("all.sql", "pg_dumpall", "pg_dump"),
        ("weekly/toc.dat", "without the rest", "folder"),
    ):
        with pytest.raises(ScriptoriumError, match=why) as refused:
            adopt(settings, folder / name)
        assert way in refused.value.hint
    (folder / "weekly" / "more").symlink_to("/etc/passwd")
    with pytest.raises(UnsafeArchive, match="no file"):
        adopt(settings, folder / "weekly")


@pytest.mark.parametrize("command", ["\\connect postgres", "\\! touch /tmp/x", "\\i /etc/passwd", "\\copy a from '/x'"])
def test_sql_that_leaves_its_database(alexandria: Alexandria, command: str) -> None:
    settings, file = alexandria.settings(), alexandria.dump("sql")
    lines = file.read_text().split("\n")
    file.write_text("\n".join([*lines[:10], command, *lines[10:]]))
    with pytest.raises(UnsafeArchive, match="psql"):
        adopt(settings, file)


def test_sql_of_a_dump_with_create(alexandria: Alexandria) -> None:
    file = alexandria.folder / "created.sql"
    subprocess.run([alexandria.programs / "pg_dump", "--create", f"--file={file}", alexandria.url], check=True)
    with pytest.raises(UnsafeArchive, match="connect") as refused:
        adopt(alexandria.settings(), file)
    assert "--create" in refused.value.hint


def test_what_looks_like_a_command_in_the_data(alexandria: Alexandria) -> None:
    alexandria.execute("INSERT INTO items (title) VALUES (E'\\\\connect postgres'), (E'a\\n\\\\! b')")
    alexandria.execute("REFRESH MATERIALIZED VIEW titles")
    settings, before = alexandria.settings(), alexandria.fingerprints()
    adopted = adopt(settings, alexandria.dump("sql"))
    alexandria.execute("TRUNCATE items CASCADE")
    restore(settings, RestoreRequest(reference=adopted.backup.id, safety=False))
    assert alexandria.fingerprints() == before


def test_the_time_of_a_dump_is_read_for_every_generation_of_pg_dump(
    generations: tuple[int, ...], server_of: Callable[[int], object], new_database: Callable[..., str], tmp_path: Path
) -> None:
    """The header of the custom format differs between versions."""
    from scriptorium.sources.postgres.adoption import head_of

    for major in generations:
        server = server_of(major)
        file, url = tmp_path / f"{major}.dump", new_database(server, "CREATE TABLE a (b int)")
        argv = [server.programs / "pg_dump", "-Fc", f"--file={file}", url]  # type: ignore[attr-defined]
        subprocess.run(argv, check=True, env={**os.environ, "TZ": "UTC"})
        head = head_of(file)
        assert (
            timedelta(0)
            <= datetime.now(UTC) - datetime.fromisoformat(head.taken).replace(tzinfo=UTC)
            < timedelta(minutes=5)
        )
        assert url.split("?")[0].endswith(head.name) or head.name in url
        assert head.server.split(".")[0] == str(major) and head.program.split(".")[0] == str(major)


def test_a_library_without_such_a_database(alexandria: Alexandria) -> None:
    config = alexandria.folder / "other.toml"
    config.write_text(
        '[libraries.books]\nsources = [{ name = "library", kind = "files", path = "library" }]\n\n'
        '[stores.local]\nkind = "local"\npath = "backups"\n'
    )
    with pytest.raises(UsageError, match="does not belong") as refused:
        adopt(load(config, {}), alexandria.dump("custom"))
    assert "postgres" in refused.value.hint
