"""The Alexandria demo and its preset: a real library, its files, a writer whose invariant holds in every backup."""

from __future__ import annotations

import hashlib
from pathlib import Path

import psycopg
import pytest

from scriptorium.demo.alexandria import build_alexandria
from scriptorium.demo.alexandria_writer import read_pledge, writing
from scriptorium.errors import SettingsError, UsageError
from scriptorium.model import Part
from scriptorium.presets import alexandria
from scriptorium.sources.files.source import FilesSource
from scriptorium.sources.postgres.source import PostgresSource


@pytest.fixture
def library(server, new_database, tmp_path):
    url = new_database(server)
    return url, tmp_path / "home", build_alexandria(url, tmp_path / "home", items=300, files=40)


def test_the_library_is_what_the_application_would_have_made(library):
    url, home, built = library
    assert (built.items, built.files, built.tables["users"]) == (300, 40, 20)
    assert len(built.tables) == 17
    with psycopg.connect(url) as session:
        assert session.execute("SELECT count(*) FROM pg_class WHERE relkind = 'S'").fetchone() == (11,)
        keys = "SELECT count(*) FROM pg_constraint WHERE contype = '{}' AND connamespace = 'public'::regnamespace"
        assert session.execute(keys.format("f")).fetchone() == (21,)
        assert session.execute(keys.format("c")).fetchone() == (2,)
        rows = session.execute("SELECT file_path, size_bytes, checksum_md5, checksum_sha256 FROM files").fetchall()
        session.execute("INSERT INTO items (uuid, title, media_type, language, date_added, date_modified) VALUES "
                        "(gen_random_uuid(), 'next', 'book', 'en', now(), now())")  # fmt: skip
    for path, size, md5, sha256 in rows:
        content = (home / "library" / path).read_bytes()
        assert (len(content), hashlib.md5(content).hexdigest(), hashlib.sha256(content).hexdigest()) == (
            size,
            md5,
            sha256,
        )
    with pytest.raises(UsageError):
        build_alexandria(url, home.parent / "other", items=1, files=0)
    with pytest.raises(UsageError):
        build_alexandria(url, home, items=1, files=0)


def test_a_backup_under_writes_keeps_the_writers_pledge(server, library, tmp_path):
    url, _, _ = library
    source = PostgresSource(database=url, tools=server.programs, staging=tmp_path / "staging", target="pledged")
    for number in range(2):
        with writing(url, tmp_path / "writer.log", every=0.001) as writer:
            before = writer.acknowledged()
            stage = tmp_path / f"stage{number}"
            stage.mkdir()
            source.capture(stage)
            assert writer.acknowledged() > before, "nothing was written meanwhile"
        staged = source.examine(stage, ())
        part = Part(staged.source, staged.kind, staged.path, 0, 0, staged.started_at, staged.finished_at, "",
                    tables=staged.tables)  # fmt: skip
        incoming = source.incoming(part, f"{number:012x}")
        incoming.prepare()
        place = incoming.receive("postgres")
        place.rmdir()
        Path(staged.trees[0].root).rename(place)
        assert incoming.load() == staged.tables
        incoming.switch()
        incoming.finish()
        pledge = read_pledge(server.address("pledged"))
        assert not pledge.broken(before) and pledge.counter > 0
        with psycopg.connect(server.address(), autocommit=True) as session:
            session.execute("DROP DATABASE pledged")


def test_the_preset_gives_sources_that_can_be_parsed(library, tmp_path, server, monkeypatch):
    url, home, _ = library
    assert alexandria.looks_like(home) and not alexandria.looks_like(tmp_path)
    database, files, config = alexandria.sources({"home": str(home), "database": url, "exclude": ["*.cbz"]}, {})
    assert PostgresSource.model_validate(database).survey(()).files > 17
    assert FilesSource.model_validate(files).place == "library" and ".env" in str(config["include"])
    assert {"/.returns", "/tts-cache", "*.cbz"} <= set(files["exclude"])
    kept = alexandria.sources({"home": str(home), "database": url, "volatile": True}, {})[1]
    assert kept["exclude"] == []
    monkeypatch.setenv("PGPASSWORD", server.password)
    from_env_file = PostgresSource.model_validate(alexandria.sources({"home": str(home)}, {})[0])
    assert from_env_file.survey(()).files > 17
    monkeypatch.delenv("PGPASSWORD")
    variables = {"ALEXANDRIA_DB_HOST": "127.0.0.1", "ALEXANDRIA_DB_PORT": str(server.port), "OTHER": "x",
                 "ALEXANDRIA_DB_NAME": url.rpartition("/")[2], "ALEXANDRIA_DB_USER": "postgres",
                 "ALEXANDRIA_DB_PASSWORD": server.password}  # fmt: skip
    by_variables = alexandria.sources({"files": "/srv/library"}, variables)
    assert [row["name"] for row in by_variables] == ["postgres", "library"]
    assert PostgresSource.model_validate(by_variables[0]).survey(()).files > 17
    with pytest.raises(SettingsError):
        alexandria.sources({}, {})
