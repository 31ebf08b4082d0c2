"""The same for archives with a PostgreSQL database, as files of a dump and as pieces of one. ``make_postgres.py`` made
them; they never change."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from make_postgres import QUESTIONS
from postgres_server import postgres_server

from scriptorium.archive import unpack
from scriptorium.archive.verification import verify_copy
from scriptorium.errors import ToolMissing
from scriptorium.manifest import loads, loads_annotations
from scriptorium.restore import Supply, restore_into
from scriptorium.sources.postgres import programs
from scriptorium.sources.postgres.embedded import EmbeddedPostgres, server_folders
from scriptorium.sources.postgres.source import PostgresSource
from scriptorium.stores import LocalStore

FOLDER = Path(__file__).parent / "version-1"
EXPECTED: dict[str, Any] = json.loads((FOLDER / "expected-postgres.json").read_text())
ARCHIVES: dict[str, Any] = EXPECTED["archives"]
BOOK = b"What a book is: a file that the database names.\n"

every = pytest.mark.parametrize("name", ARCHIVES, ids=[properties["method"] for properties in ARCHIVES.values()])


def archive(name: str) -> Path:
    return FOLDER / "alexandria" / name


def manifest_bytes(name: str) -> bytes:
    return archive(f"{name}.json").read_bytes()


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    folders = server_folders()
    if not folders:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql, or pip install 'scriptorium[embedded]'")
    with postgres_server(folders[0]) as server:
        with psycopg.connect(server.address(), autocommit=True) as session:
            session.execute("CREATE ROLE librarian")
        yield server


def test_every_archive_of_the_folder_is_among_them() -> None:
    held = {one.key.rpartition("/")[2] for one in LocalStore(path=FOLDER).list("alexandria")}
    assert held == set(ARCHIVES) and {properties["method"] for properties in ARCHIVES.values()} == {"stage", "stream"}


@every
def test_the_manifest_is_read(name: str) -> None:
    manifest, expected = loads(manifest_bytes(name)), ARCHIVES[name]
    assert (manifest.version, manifest.id, manifest.name) == (1, expected["id"], expected["name"])
    assert manifest.created_at == datetime.fromisoformat(expected["created_at"])
    assert (manifest.library, manifest.preset, manifest.type, manifest.host) == (
        "alexandria",
        "alexandria",
        "full",
        "golden.example",
    )
    assert [(part.source, part.kind, part.path) for part in manifest.parts] == [
        ("postgres", "postgres", "postgres"),
        ("library", "files", "library"),
    ]
    database = manifest.parts[0]
    assert database.engine_version is not None and database.engine_version.startswith("15.")
    assert database.method == expected["how"] and database.method.startswith("pg_dump 15.")
    assert database.tables is not None
    assert {table: [found.rows, found.fingerprint] for table, found in database.tables.items()} == expected["tables"]
    assert [str(check) for check in manifest.checks] == expected["checks"] and len(expected["checks"]) == 5


@every
def test_the_annotations_with_their_proof_are_read(name: str) -> None:
    annotations = loads_annotations(archive(f"{name}.marks.json").read_bytes())
    taken = datetime.fromisoformat(ARCHIVES[name]["created_at"]).astimezone(UTC)
    assert annotations.pinned
    assert (
        annotations.verification is not None and annotations.verification.sound and annotations.verification.at == taken
    )
    proof = annotations.proof
    assert proof is not None and proof.proven and proof.differences == ()
    assert (proof.at, proof.store, proof.seconds, proof.age_seconds) == (
        taken + timedelta(hours=1),
        "golden",
        1.5,
        3600,
    )
    assert (proof.tables, proof.rows) == (14, 80) and [str(one) for one in proof.checks] == ARCHIVES[name]["checks"]


@every
def test_a_verification_finds_nothing(name: str) -> None:
    assert verify_copy(lambda: archive(name).open("rb"), manifest_bytes(name), name=name) == ()


@every
def test_its_database_is_restored_with_all_that_was_in_it(name: str, server: EmbeddedPostgres, tmp_path: Path) -> None:
    """Into a server of the newest generation here, where no such database is."""
    manifest = loads(manifest_bytes(name))
    part, goal = manifest.parts[0], f"golden_{ARCHIVES[name]['method']}"
    source = PostgresSource(database=server.address(goal), tools=server.programs, staging=tmp_path / "staging")
    incoming = source.incoming(part, "0123456789ab")
    incoming.prepare()
    with archive(name).open("rb") as stream:
        done = unpack(stream, incoming.receive, roots=[tmp_path], expected=manifest.files)
    assert done.unset == ()
    assert incoming.load() == part.tables
    incoming.switch()
    incoming.finish()
    with psycopg.connect(server.address(goal), autocommit=True) as session:
        for question, answer in EXPECTED["answers"].items():
            query = QUESTIONS[question]
            assert [list(row) for row in session.execute(query).fetchall()] == answer, question


@every
def test_it_is_restored_into_a_folder(name: str, tmp_path: Path) -> None:
    supply = Supply(LocalStore(path=FOLDER), f"alexandria/{name}", loads(manifest_bytes(name)))
    assert restore_into(supply, tmp_path / "new", "000000000000").parts == ("postgres", "library")
    assert (tmp_path / "new" / "library" / "a" / "book.txt").read_bytes() == BOOK


@every
def test_ordinary_tools_read_it(name: str, tmp_path: Path) -> None:
    done = subprocess.run(["tar", "-xpf", archive(name), "-C", tmp_path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run(["sha256sum", "--quiet", "--strict", "-c", "SHA256SUMS"], cwd=tmp_path, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    dump = tmp_path / "postgres" / "alexandria"
    if ARCHIVES[name]["method"] == "stream":
        pieces = sorted(dump.glob("dump.0*"))
        assert len(pieces) > 3
        dump = tmp_path / "dump"
        dump.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    try:
        restorer = programs.find("pg_restore", 15)  # PATH may have Debian's wrapper round nothing
    except ToolMissing:
        pytest.skip("no pg_restore here: apt-get install postgresql-client")
    listed = subprocess.run([restorer.path, "--list", dump], capture_output=True, text=True)
    assert listed.returncode == 0 and "TABLE DATA public everything" in listed.stdout
