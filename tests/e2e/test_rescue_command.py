"""``python -m scriptorium.rescue`` for somebody who lost everything else: no Prefect, no settings, no catalog."""

from __future__ import annotations

import contextlib
import gzip
import inspect
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import real_backup

import scriptorium
from scriptorium.model import Manifest
from scriptorium.words import BackupType, Compression, Tier

FIRST = datetime(2026, 3, 1, 2, 0, 0, tzinfo=UTC)
_BLOCKED = ("prefect", "typer", "rich")


@dataclass(frozen=True)
class Vault:
    """A store with an old full backup, the newest full one, one of what a restore replaced, and a later one of the
    configuration alone."""

    place: Any
    old: Manifest
    full: Manifest
    config: Manifest

    @property
    def store(self) -> Path:
        return self.place.backups

    def archive(self, manifest: Manifest) -> Path:
        assert manifest.archive is not None
        return self.store / manifest.library / manifest.archive.name


@pytest.fixture(scope="module")
def made(new_place_for_module: Callable[..., Any]) -> Vault:
    place = new_place_for_module()
    settings = place.settings
    old = real_backup.take(settings, FIRST, compression=Compression.ZSTD)
    place.execute("CREATE (:Book {id: 'new', title: 'Added later', pages: 1})")
    full = real_backup.take(settings, FIRST + timedelta(days=1), name="before the move")
    place.execute("MATCH (b:Book) WHERE b.id = 'new' SET b.title = 'wrong'")
    real_backup.take(settings, FIRST + timedelta(days=2), tier=Tier.BEFORE_RESTORE)
    config = real_backup.take(settings, FIRST + timedelta(days=3), type=BackupType.CONFIG)
    return Vault(place, old, full, config)


@pytest.fixture(scope="module")
def new_place_for_module(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[..., Any]:
    conftest = next(
        plugin
        for plugin in request.config.pluginmanager.get_plugins()
        if inspect.ismodule(plugin) and hasattr(plugin, "make_place")
    )
    return lambda: conftest.make_place(tmp_path_factory.mktemp("vault"))


@pytest.fixture
def vault(made: Vault, tmp_path: Path) -> Vault:
    """A copy of the store, which a test may damage."""
    shutil.copytree(made.store, tmp_path / "store", ignore=shutil.ignore_patterns(".scriptorium", "backup_index.json"))
    place = type(made.place)(tmp_path, made.place.home, tmp_path / "store", made.place.config)
    return Vault(place, made.old, made.full, made.config)


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


@pytest.fixture
def rescue(tmp_path: Path) -> Callable[..., Answer]:
    """The command on a machine without Prefect, in a folder without settings, with a variable that names wrong
    settings."""
    bare = tmp_path / "bare"
    for name in _BLOCKED:
        (bare / name).mkdir(parents=True)
        (bare / name / "__init__.py").write_text(f"raise ImportError('{name} is not on this machine')\n")
    (bare / "wrong.toml").write_text("this is = no settings [file\n")
    code = str(Path(scriptorium.__file__).parents[1])
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{bare}:{code}",
        "SCRIPTORIUM_CONFIG": str(bare / "wrong.toml"),
        "HOME": "/nonexistent",
    }

    def call(*words: str | Path) -> Answer:
        argv = [sys.executable, "-m", "scriptorium.rescue", *map(str, words)]
        done = subprocess.run(argv, env=env, cwd=bare, capture_output=True, text=True, timeout=120)
        return Answer(done.returncode, done.stdout, done.stderr)

    return call


def books(home: Path) -> int:
    import kuzu

    database = kuzu.Database(str(home / "data/kuzu/bibliotheca.db"), read_only=True)
    connection = kuzu.Connection(database)
    count = connection.execute("MATCH (b:Book) RETURN count(*)").get_next()[0]
    connection.close()
    database.close()
    return int(count)


def test_prefect_is_really_out_of_reach(rescue: Callable[..., Answer], tmp_path: Path) -> None:
    env = {"PYTHONPATH": str(tmp_path / "bare"), "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", "import prefect"], env=env, capture_output=True, text=True)
    assert "prefect is not on this machine" in done.stderr


def test_without_a_target_it_lists_what_there_is_newest_first(vault: Vault, rescue: Callable[..., Answer]) -> None:
    answer = rescue(vault.store)
    assert answer.code == 0, answer.err
    heading, *rows = answer.out.splitlines()
    assert heading.split("  ")[0] == "created (UTC)"
    assert [row.split()[3:5] for row in rows] == [
        ["config", "manual"],
        ["full", "before-restore"],
        ["full", "manual"],
        ["full", "manual"],
    ]
    assert "2026-03-02 02:00:00" in rows[2] and vault.full.id in rows[2] and "before the move" in rows[2]
    assert rows[2].endswith("verified")


def test_the_newest_full_backup_is_restored_whole(vault: Vault, rescue: Callable[..., Answer], tmp_path: Path) -> None:
    answer = rescue(vault.store, tmp_path / "new")
    assert answer.code == 0, answer.err
    assert f"restoring full backup {vault.full.id}" in answer.out
    assert f"there is a newer one of type config, tier manual: --backup {vault.config.id}" in answer.out
    assert "there is a newer one of type full, tier before-restore: --backup " in answer.out
    assert "table Book: 51 rows, as recorded" in answer.out
    assert books(tmp_path / "new") == 51
    living = vault.place.home
    for name in (".env", "config.py", "data/covers/sub/b.jpg", "data/uploads/notes.txt"):
        assert (tmp_path / "new" / name).read_bytes() == (living / name).read_bytes(), name


@pytest.mark.parametrize("how", ["id", "prefix", "name of the archive", "the archive itself"])
def test_an_older_one_by_whatever_one_knows_of_it(
    vault: Vault, rescue: Callable[..., Answer], tmp_path: Path, how: str
) -> None:
    archive = vault.archive(vault.old)
    words: list[str | Path] = {
        "id": [vault.store, "--backup", vault.old.id],
        "prefix": [vault.store, "--backup", vault.old.id[:5]],
        "name of the archive": [vault.store, "--backup", archive.name],
        "the archive itself": [archive],
    }[how]
    answer = rescue(words[0], tmp_path / "new", *words[1:])
    assert answer.code == 0, answer.err
    assert "table Book: 50 rows" in answer.out


def test_only_some_paths(vault: Vault, rescue: Callable[..., Answer], tmp_path: Path) -> None:
    answer = rescue(vault.store, tmp_path / "new", "--only", "data/covers/*.jpg", "--only", "config.py")
    assert answer.code == 0, answer.err
    files = {path.relative_to(tmp_path / "new").as_posix() for path in (tmp_path / "new").rglob("*") if path.is_file()}
    assert files == {"data/covers/a.jpg", "config.py"}


def test_from_the_export(vault: Vault, rescue: Callable[..., Answer], tmp_path: Path) -> None:
    answer = rescue(vault.store, tmp_path / "new", "--from-export")
    assert answer.code == 0, answer.err
    assert books(tmp_path / "new") == 51


def test_an_archive_alone_without_its_manifest(vault: Vault, rescue: Callable[..., Answer], tmp_path: Path) -> None:
    """A copy that somebody took away, under another name."""
    carried = tmp_path / "carried.tar.gz"
    shutil.copy(vault.archive(vault.full), carried)
    listed = rescue(carried)
    assert listed.code == 0 and vault.full.id in listed.out
    assert rescue(carried, tmp_path / "new").code == 0
    assert books(tmp_path / "new") == 51


def damage_manifest(archive: Path) -> None:
    manifest = archive.with_name(archive.name + ".json")
    manifest.write_bytes(manifest.read_bytes().replace(b'"full"', b'"data"'))


def damage_member(archive: Path) -> None:
    """Flip a bit that changes contents: in a run of zeros, many flipped bits unpack to the same zeros."""
    data = bytearray(archive.read_bytes())
    was = gzip.decompress(data)
    for at in range(len(data) // 2, len(data)):
        data[at] ^= 0x10
        with contextlib.suppress(zlib.error, gzip.BadGzipFile, EOFError):
            if gzip.decompress(data) == was:
                data[at] ^= 0x10
                continue
        archive.write_bytes(data)
        return


def cut_short(archive: Path) -> None:
    os.truncate(archive, archive.stat().st_size // 2)


@pytest.mark.parametrize(
    ("damage", "listed"),
    [
        (damage_manifest, "damaged: the manifest differs from its checksum"),
        (cut_short, "damaged: the archive has"),
        (Path.unlink, "damaged: the archive is missing"),
    ],
)
def test_a_damaged_backup_is_passed_over(
    vault: Vault, rescue: Callable[..., Answer], tmp_path: Path, damage: Callable[[Path], None], listed: str
) -> None:
    damage(vault.archive(vault.full))
    assert listed in rescue(vault.store).out
    answer = rescue(vault.store, tmp_path / "new")
    assert answer.code == 0, answer.err
    assert f"restoring full backup {vault.old.id}" in answer.out
    assert books(tmp_path / "new") == 50


def test_a_damaged_manifest_does_not_cost_a_sound_archive(
    vault: Vault, rescue: Callable[..., Answer], tmp_path: Path
) -> None:
    archive = vault.archive(vault.full)
    damage_manifest(archive)
    assert rescue(vault.store, tmp_path / "new", "--backup", archive.name).code == 0
    assert books(tmp_path / "new") == 51


def test_damage_inside_the_archive_is_exit_3_and_leaves_nothing(
    vault: Vault, rescue: Callable[..., Answer], tmp_path: Path
) -> None:
    damage_member(vault.archive(vault.full))
    answer = rescue(vault.store, tmp_path / "new", "--backup", vault.full.id)
    assert answer.code == 3
    assert answer.err.startswith("error: ")
    assert "Traceback" not in answer.err
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob(".scriptorium-*"))


def test_what_it_refuses(vault: Vault, rescue: Callable[..., Answer], tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("mine")
    empty = tmp_path / "empty"
    empty.mkdir()
    cases: list[tuple[list[str | Path], int, str]] = [
        ([tmp_path / "nowhere"], 5, "there is no such store or archive"),
        ([empty], 5, "no backup is here"),
        ([vault.store, taken], 2, "not empty"),
        ([vault.store, tmp_path / "new", "--backup", "ffff0000"], 5, "there is no such backup"),
        ([vault.store, tmp_path / "new", "--library", "other"], 5, "no sound backup"),
        ([vault.store, tmp_path / "new", "--only", "nothing/*"], 5, "nothing in the backup matches"),
        ([vault.store, "--only", "data/*"], 2, "TARGET is missing"),
        ([taken / "mine.txt"], 3, "not an archive"),
    ]
    for words, code, message in cases:
        answer = rescue(*words)
        assert answer.code == code, (words, answer)
        assert message in answer.err or "archive ends early" in answer.err, (words, answer.err)
        assert "Traceback" not in answer.err
    assert (taken / "mine.txt").read_text() == "mine"
    assert not (tmp_path / "new").exists()
    assert rescue(vault.store, taken, "--clean").code == 0
    assert not (taken / "mine.txt").exists() and books(taken) == 51


def test_several_libraries_in_one_store(vault: Vault, rescue: Callable[..., Answer], tmp_path: Path) -> None:
    shutil.copytree(vault.store / "bibliotheca", vault.store / "second")
    answer = rescue(vault.store, tmp_path / "new")
    assert answer.code == 2 and "bibliotheca, second" in answer.err
    assert rescue(vault.store, tmp_path / "new", "--library", "second").code == 0
