"""Exports of every kind of database: which backup, the target, all or nothing, nothing unpacked, damage."""

from __future__ import annotations

import dataclasses
import gzip
import io
import os
import shutil
import tarfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import real_backup

from scriptorium.catalog.run_progress import running
from scriptorium.errors import DamageFound, NotFound, UsageError
from scriptorium.manifest import dumps, loads
from scriptorium.members import ledger
from scriptorium.model import Manifest, TableFingerprint
from scriptorium.operations import export as operation
from scriptorium.operations.export import plan_export, run_export
from scriptorium.requests import ExportRequest
from scriptorium.results import ExportResult
from scriptorium.settings import load
from scriptorium.words import BackupType, Compression

BOOKS = (
    "CREATE NODE TABLE Book(id STRING, title STRING, PRIMARY KEY(id))",
    "CREATE NODE TABLE Other(id STRING, PRIMARY KEY(id))",
    "CREATE (:Book {id: 'a', title: 'A'}), (:Book {id: 'b', title: NULL})",
)


@pytest.fixture(scope="module")
def original(new_graph, tmp_path_factory) -> Any:
    return new_graph(tmp_path_factory.mktemp("books"), *BOOKS, compression=Compression.NONE)


@pytest.fixture
def books(original, tmp_path) -> Any:
    """A copy that the test may damage; its output is written beside its ``home``."""
    shutil.copytree(original.path.parent, tmp_path / "home")
    settings = load(tmp_path / "home" / "scriptorium.toml", {})
    return dataclasses.replace(original, path=tmp_path / "home" / original.path.name, settings=settings)


def export(graph: Any, *tables: str, output: Path | str | None = None, **more: Any) -> ExportResult:
    return operation.export(
        graph.settings, ExportRequest(tables=tables, output=str(output) if output else None, **more)
    )


def everything(folder: Path) -> list[str]:
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    return [path for path in found if path.partition("/")[0] != "home"]


def change(graph: Any, **changes: Any) -> None:
    """The manifest beside the archive differs."""
    beside = Path(f"{graph.archive}.json")
    manifest: Manifest = loads(beside.read_bytes())
    part = dataclasses.replace(manifest.parts[0], **changes.pop("part", {}))
    beside.write_bytes(dumps(dataclasses.replace(manifest, parts=(part,), **changes)))


def rewritten(graph: Any, keep: Any = None, data: Any = None) -> None:
    """The archive without the members that ``keep`` refuses, and with what ``data`` makes of a member's bytes."""
    made = io.BytesIO()
    with tarfile.open(graph.archive) as old, tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as new:
        for member in old:
            opened = old.extractfile(member)
            body = opened.read() if opened else b""
            if keep is not None and not keep(member.name):
                continue
            body = data(member.name, body) if data else body
            member.size = len(body)
            new.addfile(member, io.BytesIO(body))
    graph.archive.unlink()
    graph.archive.write_bytes(made.getvalue())


def test_where_one_table_goes(books, tmp_path, monkeypatch):
    place = tmp_path / "out"
    place.mkdir()
    monkeypatch.chdir(place)
    stem = books.archive.name.partition(".tar")[0]
    for output, expected in [
        (None, "Book.csv"),
        ("named.txt", "named.txt"),
        (place / "absolute.csv", "absolute.csv"),
    ]:
        export(books, "Book", output=output)
        assert (place / expected).is_file()
    (place / "folder").mkdir()
    export(books, "Book", output="folder")
    export(books, "Other", output=f"{place}/folder/")
    export(books)
    export(books, "Book", "Other", "Book", output="two")
    (place / "empty").mkdir()
    export(books, output="empty")
    assert everything(place) == sorted(
        [
            *("Book.csv", "named.txt", "absolute.csv", "folder", "folder/Book.csv", "folder/Other.csv"),
            *(
                f"{folder}{file}"
                for folder in (f"{stem}-csv", "two", "empty")
                for file in ("", "/Book.csv", "/Other.csv")
            ),
        ]
    )


@pytest.mark.parametrize("tables", [("Book",), ()])
def test_what_is_there_is_never_replaced(books, tmp_path, tables):
    there = tmp_path / "there"
    if tables:
        there.write_text("mine")
    else:
        there.mkdir()
        (there / "mine").write_text("mine")
    before = everything(tmp_path)
    (tmp_path / "link").symlink_to("nowhere")
    for output in (there, tmp_path / "link"):
        with pytest.raises(UsageError, match="already exists"):
            plan_export(books.settings, ExportRequest(tables=tables, output=str(output)))
    (tmp_path / "link").unlink()
    assert everything(tmp_path) == before


@pytest.mark.parametrize("tables", [("Book",), ()])
def test_what_appears_meanwhile_is_not_replaced_either(books, tmp_path, tables):
    plan = plan_export(books.settings, ExportRequest(tables=tables, output=str(tmp_path / "late")))
    if tables:
        (tmp_path / "late").write_text("mine")
    else:
        (tmp_path / "late").mkdir()
        (tmp_path / "late" / "mine").write_text("mine")
    with pytest.raises(UsageError, match="already exists"):
        run_export(books.settings, plan)
    found = (tmp_path / "late") if tables else (tmp_path / "late" / "mine")
    assert found.read_text() == "mine"
    assert not any(".partial" in path for path in everything(tmp_path))


def test_wrong_words_are_refused_before_anything_is_written(books, tmp_path):
    before = everything(tmp_path)
    with pytest.raises(UsageError) as format:
        export(books, "Book", format="xlsx", output=tmp_path / "x")
    assert "csv, json, parquet" in format.value.hint
    with pytest.raises(NotFound, match="no such table") as table:
        export(books, "Shelf", output=tmp_path / "x")
    assert table.value.hint == "there are: Book, Other"
    with pytest.raises(NotFound, match="no such backup"):
        export(books, "Book", output=tmp_path / "x", reference="ffffffff")
    with pytest.raises(NotFound, match="no such folder"):
        export(books, "Book", output=tmp_path / "nowhere" / "x.csv")
    assert everything(tmp_path) == before


def test_latest_is_the_newest_backup_that_holds_a_database(place, instant, tmp_path):
    """A newer backup that has only the configuration is not chosen."""
    older = real_backup.take(place.settings, instant, type=BackupType.DATABASE)
    place.execute("CREATE (:Book {id: 'new', title: 'New', pages: 1})")
    newer = real_backup.take(place.settings, instant + timedelta(days=1))
    real_backup.take(place.settings, instant + timedelta(days=2), type=BackupType.CONFIG)
    for reference, manifest, rows in [("latest", newer, 51), (older.id[:6], older, 50), (newer.name, newer, 51)]:
        output = str(tmp_path / f"{reference}.csv")
        done = operation.export(place.settings, ExportRequest(reference=reference, tables=["Book"], output=output))
        assert (done.backup, done.rows) == (manifest.id, rows)
    config = place_config(place, instant)
    with pytest.raises(NotFound, match="has no tables"):
        plan_export(place.settings, ExportRequest(reference=config.id))


def place_config(place: Any, instant: Any) -> Manifest:
    return real_backup.take(place.settings, instant + timedelta(days=3), type=BackupType.CONFIG)


def test_a_missing_backup_of_a_database_is_reported(place, instant):
    real_backup.take(place.settings, instant, type=BackupType.CONFIG)
    with pytest.raises(NotFound, match="no good backup with a database"):
        plan_export(place.settings, ExportRequest())


def test_two_databases_with_tables_of_one_name(new_graph, instant, tmp_path):
    first = new_graph(tmp_path, *BOOKS)
    shutil.copy(first.path, tmp_path / "second.db")
    config = tmp_path / "scriptorium.toml"
    graph = '{ name = "graph", kind = "kuzu", path = "graph.db" }'
    config.write_text(
        config.read_text().replace(graph, f'{graph}, {{ name = "second", kind = "kuzu", path = "second.db" }}')
    )
    both = dataclasses.replace(first, settings=load(config, {}))
    real_backup.take(both.settings, instant + timedelta(days=1))
    with pytest.raises(UsageError, match="several tables") as several:
        export(both, "Book", output=tmp_path / "x.csv")
    assert "second:Book" in several.value.hint
    export(both, "second:Book", output=tmp_path / "x.csv")
    export(both, output=tmp_path / "all")
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == [
        f"{source}.{table}.csv" for source in ("graph", "second") for table in ("Book", "Other")
    ]


def test_only_the_wanted_member_touches_the_disk_and_reading_stops_behind_it(new_graph, instant, tmp_path):
    """Thirty megabytes of book files lie behind the database, which itself is much larger than one table's export."""
    home = tmp_path / "home"
    (home / "uploads").mkdir(parents=True)
    graph = new_graph(home, *BOOKS)
    config = home / "scriptorium.toml"
    kuzu = '{ name = "graph", kind = "kuzu", path = "graph.db" }'
    config.write_text(config.read_text().replace(kuzu, f'{kuzu}, {{ name = "up", kind = "files", path = "uploads" }}'))
    (home / "uploads" / "book.pdf").write_bytes(os.urandom(30 << 20))
    graph = dataclasses.replace(graph, settings=load(config, {}))
    manifest = real_backup.take(graph.settings, instant + timedelta(days=1), compression=Compression.NONE)
    read: list[int] = []
    peak: list[int] = []

    def watch(count: int) -> None:
        read.append(count)
        peak.append(sum(path.stat().st_size for path in tmp_path.glob(".*.partial/**/*") if path.is_file()))

    request = ExportRequest(tables=["Book"], output=str(tmp_path / "book.csv"))
    operation.export(graph.settings, request, advance=watch)
    database = sum(entry.size for entry in manifest.files.entries if entry.path.startswith("graph/"))
    assert database > 1 << 20
    assert max(peak) < 64 << 10
    assert sum(read) < 2 * database + (16 << 20), "read twice, as far as the export; not the files behind it"
    assert manifest.archive.bytes > 30 << 20


def test_where_a_member_lists_the_files_it_is_believed(new_graph, tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "INLINE", 2)
    (tmp_path / "home").mkdir()
    graph = new_graph(tmp_path / "home", *BOOKS, compression=Compression.NONE)
    assert graph.manifest.files.entries is None
    assert export(graph, "Book", output=tmp_path / "book.csv").rows == 2
    flip = lambda name, body: body[:-9] + bytes([body[-9] ^ 1]) + body[-8:] if name.endswith("Book.parquet") else body  # noqa: E731
    rewritten(graph, data=flip)
    with pytest.raises(DamageFound):
        export(graph, "Book", output=tmp_path / "again.csv")
    assert export(graph, "Other", output=tmp_path / "other.csv").rows == 0


@pytest.mark.parametrize(
    ("name", "at"), [("Book.parquet", 20), ("Book.parquet", -9), ("copy.cypher", 6), ("copy.cypher", -3)]
)
def test_a_flipped_bit_in_what_is_wanted_is_damage(books, tmp_path, name, at):
    def flip(member: str, body: bytes) -> bytes:
        found = bytearray(body)
        if member.endswith(name):
            found[at] ^= 1
        return bytes(found)

    rewritten(books, data=flip)
    with pytest.raises(DamageFound, match="not what was saved"):
        export(books, "Book", output=tmp_path / "book.csv")
    assert not (tmp_path / "book.csv").exists()
    assert not any(".partial" in path for path in everything(tmp_path))


@pytest.mark.parametrize("missing", ["copy.cypher", "Book.parquet"])
def test_a_missing_member_is_damage(books, tmp_path, missing):
    rewritten(books, keep=lambda name: not name.endswith(missing))
    with pytest.raises(DamageFound, match="missing") as damage:
        export(books, "Book", output=tmp_path / "book.csv")
    assert damage.value.on == f"exports/graph/{missing}"


def test_an_archive_that_ends_early_is_damage(new_graph, tmp_path):
    (tmp_path / "home").mkdir()
    graph = new_graph(tmp_path / "home", *BOOKS)
    whole = graph.archive.read_bytes()
    assert gzip.decompress(whole)
    graph.archive.unlink()
    graph.archive.write_bytes(whole[: len(whole) // 3])
    with pytest.raises(DamageFound):
        export(graph, output=tmp_path / "all", reference=graph.manifest.id)
    assert not (tmp_path / "all").exists()


def test_other_rows_than_the_manifest_counted_are_damage(books, tmp_path):
    tables = dict(books.manifest.parts[0].tables)
    change(books, part={"tables": {**tables, "Book": TableFingerprint(3, tables["Book"].fingerprint)}})
    with pytest.raises(DamageFound, match="2 rows in the archive, 3 were saved"):
        export(books, "Book", output=tmp_path / "book.csv")
    assert not (tmp_path / "book.csv").exists()
    assert export(books, "Other", output=tmp_path / "other.csv").rows == 0


def test_a_table_that_the_export_lacks_is_damage(books, tmp_path):
    tables = dict(books.manifest.parts[0].tables)
    change(books, part={"tables": {**tables, "Shelf": TableFingerprint(0, "")}})
    with pytest.raises(DamageFound, match="lacks a table: Shelf"):
        export(books, output=tmp_path / "all")


def test_a_backup_that_is_read_is_marked_so(books, tmp_path):
    from scriptorium import workspace

    busy: list[frozenset[str]] = []
    request = ExportRequest(tables=["Book"], output=str(tmp_path / "book.csv"))
    operation.export(books.settings, request, advance=lambda _: busy.append(workspace.being_read(books.settings)))
    assert set(busy) == {frozenset({books.manifest.id})}


def test_other_processes_can_read_how_far_it_is(books, tmp_path) -> None:
    seen: list[Any] = []
    request = ExportRequest(output=str(tmp_path / "out"))
    done = operation.export(books.settings, request, advance=lambda _: seen.extend(running(books.settings)))
    assert {(one.operation, one.library, str(one.step)) for one in seen} == {
        ("export", done.library, f"exporting {done.backup}")
    }
    assert len({one.run for one in seen}) == 1 and running(books.settings) == []
