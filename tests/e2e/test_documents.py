"""The runbook is run: every command, from the document itself, on a real backup of a real living library."""

from __future__ import annotations

import inspect
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import console_blocks as console
import pytest
import real_backup
import runbook
from age_keys import new_key
from borg_repository import borg_store
from rclone_remote import rclone_store
from runbook import DOCS, perform
from ssh_server import local_store

from scriptorium.model import Manifest
from scriptorium.sources.kuzu import reader as kuzu_reader
from scriptorium.stores import Age, LocalStore
from scriptorium.words import Compression, Tier

BEFORE, NEWEST = datetime(2026, 2, 28, 2, 0, tzinfo=UTC), datetime(2026, 3, 1, 2, 0, tzinfo=UTC)
_JUNK = b"\xff" * 4096
# What no prose may contain: a command that a reader could type, and that no test runs.
_PROGRAMS = "tar|sha256sum|zstd|docker|scriptorium|python3?|pip|psql|pg_restore|createdb|apt-get|rm|mv|cp"
_INLINE = re.compile(rf"`(?:{_PROGRAMS}) [^`]+`")


@dataclass(frozen=True)
class Scene:
    """A library that was changed after its newest backup, in a folder of its own, and its state at the backup."""

    place: Any
    newest: Manifest
    then: Path

    @property
    def home(self) -> Path:
        return Path(self.place.home)

    @property
    def folder(self) -> Path:
        return Path(self.place.folder)

    @property
    def work(self) -> Path:
        return self.folder / "restore"

    @property
    def values(self) -> dict[str, str]:
        owner = "1000:1000" if os.geteuid() == 0 else f"{os.getuid()}:{os.getgid()}"
        return {
            "STORE": str(self.place.backups),
            "LIBRARY": "bibliotheca",
            "TARGET": str(self.home),
            "WORK": str(self.work),
            "OWNER": owner,
            "SETTINGS": str(self.place.config),
        }


def _live_on(place: Any) -> None:
    """What happens to a library between a backup and a disaster."""
    place.execute("CREATE (:Book {id: 'later', title: 'Came after the backup', pages: 1})")
    (place.home / "data/covers/later.jpg").write_bytes(b"newer than the backup")
    (place.home / "data/covers/a.jpg").write_bytes(b"overwritten by mistake")
    (place.home / "config.py").write_text("DEBUG = True\n")
    (place.home / "data/backups").mkdir()
    (place.home / "data/backups/own.zip").write_bytes(b"the application's own backup")


def _conftest(request: pytest.FixtureRequest) -> Any:
    plugins = request.config.pluginmanager.get_plugins()
    return next(one for one in plugins if inspect.ismodule(one) and hasattr(one, "make_place"))


@pytest.fixture(scope="module")
def templates(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[[Compression], Scene]:
    """A library with two backups, made once for each compression and copied for every test."""
    conftest = _conftest(request)
    made: dict[Compression, Scene] = {}

    def template(compression: Compression) -> Scene:
        if compression not in made:
            place = conftest.make_place(tmp_path_factory.mktemp("template"), books=49)
            for file in (place.home / "data").rglob("*"):
                os.utime(file, (BEFORE.timestamp(), BEFORE.timestamp()))
            real_backup.take(place.settings, BEFORE, compression=compression)
            place.execute("CREATE (:Book {id: '50', title: 'Title 50', pages: 50})")
            newest = real_backup.take(place.settings, NEWEST, compression=compression)
            shutil.copytree(place.home, place.folder / "then", symlinks=True)
            _live_on(place)
            made[compression] = Scene(place, newest, place.folder / "then")
        return made[compression]

    return template


@pytest.fixture
def scene(templates: Callable[[Compression], Scene], tmp_path: Path, request: pytest.FixtureRequest) -> Scene:
    model = templates(getattr(request, "param", Compression.GZIP))
    shutil.copytree(model.place.folder, tmp_path / "machine", symlinks=True)
    old, new = model.place.folder, tmp_path / "machine"
    place = replace(
        model.place,
        folder=new,
        **{f: new / getattr(model.place, f).relative_to(old) for f in ("home", "backups", "config")},
    )
    return Scene(place, model.newest, new / "then")


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return runbook.shell(tmp_path)


def books(database: Path) -> int:
    tables = kuzu_reader.read(database, engine=None).tables
    return tables["Book"].rows


def tree(root: Path) -> dict[str, object]:
    """Paths and contents, without the database (its contents are compared as tables)."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root).as_posix()
        if not inside.startswith("data/kuzu/"):
            found[inside] = path.read_bytes() if path.is_file() else "folder"
    return found


def saved(scene: Scene) -> dict[str, object]:
    """What the newest backup contains of the library."""
    volatile = ("data/logs", "data/locks", "data/backups")
    return {path: what for path, what in tree(scene.then).items() if not path.startswith(volatile)}


every_compression = pytest.mark.parametrize("scene", list(Compression), indirect=True)


@every_compression
def test_2_unpacked_and_checked(scene: Scene, env: dict[str, str]) -> None:
    assert scene.newest.archive is not None
    ending = scene.newest.archive.compression.ending
    if ending == ".tar.zst" and shutil.which("zstd") is None:
        pytest.skip("no zstd program here: apt-get install zstd")
    perform("2", scene.values, scene.folder, env)
    assert tree(scene.work / "new") == saved(scene)
    assert books(scene.work / "new/data/kuzu/bibliotheca.db") == 50
    assert {path.name for path in scene.work.iterdir()} == {
        *("new", "exports", "backup_metadata.json", "manifest.json", "SHA256SUMS")
    }


def test_1_the_newest_is_found(scene: Scene, env: dict[str, str]) -> None:
    """Not an unfinished archive, and not what a restore replaced."""
    real_backup.take(scene.place.settings, NEWEST + timedelta(days=1), tier=Tier.BEFORE_RESTORE)
    (scene.place.backups / "bibliotheca" / "full_20260303_020000.tar.gz").write_bytes(b"unfinished")
    perform("1", scene.values, scene.folder, env)


def _stale(home: Path) -> None:
    """A WAL and a shadow file of another state: if they stayed beside the new database, they would destroy it."""
    for ending in (".wal", ".shadow"):
        (home / f"data/kuzu/bibliotheca.db{ending}").write_bytes(_JUNK)


def test_3_a_bibliotheca_is_put_back(scene: Scene, env: dict[str, str]) -> None:
    _stale(scene.home)
    (scene.home / "config.py.~1~").write_bytes(b"of an earlier disaster")
    perform("3", scene.values, scene.folder, env)
    assert books(scene.place.database) == 50
    assert {path.name for path in scene.place.database.parent.iterdir()} == {"bibliotheca.db"}
    now = tree(scene.home)
    assert {path: now.get(path) for path in saved(scene)} == saved(scene)
    assert "data/covers/later.jpg" not in now
    previous = "data/.scriptorium-previous"
    assert now[f"{previous}/covers/later.jpg"] == b"newer than the backup"
    assert now[f"{previous}/kuzu/bibliotheca.db.wal"] == _JUNK
    assert now["config.py.~1~"] == b"DEBUG = True\n"
    assert now["data/logs/app.log"] == b"volatile"
    assert now["data/backups/own.zip"] == b"the application's own backup"
    assert f"{scene.place.database.stat().st_uid}:{scene.place.database.stat().st_gid}" == scene.values["OWNER"]


def test_4_what_was_there_before_comes_back(scene: Scene, env: dict[str, str]) -> None:
    _stale(scene.home)
    before = tree(scene.home)
    database = scene.place.database.read_bytes()
    perform("4", scene.values, scene.folder, env)
    assert tree(scene.home) == before
    assert scene.place.database.read_bytes() == database
    assert scene.place.database.with_name("bibliotheca.db.wal").read_bytes() == _JUNK


def test_5_a_database_is_made_from_its_export(scene: Scene, env: dict[str, str]) -> None:
    perform("5", scene.values, scene.folder, env)
    found = kuzu_reader.read(scene.work / "new/data/kuzu/bibliotheca.db", engine=None)
    assert found.tables == scene.newest.parts[0].tables
    rows = (scene.work / "csv/Book.csv").read_text().splitlines()
    assert len(rows) == 51 and rows[0] == "a.id,a.title,a.pages"


def test_6_one_file_comes_back(scene: Scene, env: dict[str, str]) -> None:
    perform("6", scene.values, scene.folder, env)
    assert (scene.home / "data/covers/a.jpg").read_bytes() == (scene.then / "data/covers/a.jpg").read_bytes()
    assert (scene.home / "data/covers/later.jpg").exists()
    assert books(scene.place.database) == 51
    assert (scene.work / "one/data/covers/sub/b.jpg").exists()


def test_8_with_scriptorium(scene: Scene, env: dict[str, str], server: str) -> None:
    perform("8", scene.values, scene.folder, {**env, "PREFECT_API_URL": server})
    whole = tree(scene.work / "whole")
    assert whole == saved(scene)
    assert [path.name for path in (scene.work / "covers/data/covers").iterdir()] != []
    assert books(scene.work / "rebuilt/data/kuzu/bibliotheca.db") == 50
    assert books(scene.work / "older/data/kuzu/bibliotheca.db") == 49
    assert books(scene.place.database) == 50
    assert (scene.home / "data/covers/later.jpg").exists(), "only the database was to be restored"


def corrupt(database: Path) -> None:
    data = bytearray(database.read_bytes())
    data[4096 : len(data) // 2] = b"\xff" * (len(data) // 2 - 4096)
    database.write_bytes(data)


@pytest.mark.parametrize("how", ["corrupt", "gone"])
def test_12_disaster_with_scriptorium(scene: Scene, env: dict[str, str], server: str, how: str) -> None:
    if how == "corrupt":
        corrupt(scene.place.database)
    else:
        scene.place.database.unlink()
    before = tree(scene.home)
    perform("12", scene.values, scene.folder, {**env, "PREFECT_API_URL": server})
    now = {path: what for path, what in tree(scene.home).items() if ".scriptorium-" not in path}
    assert books(scene.place.database) == 50 and now == before
    if how == "corrupt":
        (kept,) = (scene.home / "data").glob(".scriptorium-restore-*-kuzu/former")
        assert any(kept.iterdir()), "somebody may still get something out of it"


def test_9_disaster_the_database_is_corrupt(scene: Scene, env: dict[str, str]) -> None:
    corrupt(scene.place.database)
    with pytest.raises(kuzu_reader.Unreadable):
        kuzu_reader.read(scene.place.database, engine=None)
    _stale(scene.home)
    outcomes = perform("9", scene.values, scene.folder, env)
    assert books(scene.place.database) == 50
    kept = scene.home / "data/.scriptorium-previous/kuzu"
    assert {path.name for path in kept.iterdir()} >= {"bibliotheca.db", "bibliotheca.db.shadow"}
    assert sorted(Path(line).name for line in outcomes[-1].output.splitlines()) == ["a.jpg", "later.jpg"]
    assert (scene.home / "data/covers/later.jpg").read_bytes() == b"newer than the backup"
    assert (scene.home / "config.py").read_text() == "DEBUG = True\n"


def test_10_disaster_the_server_is_lost(scene: Scene, env: dict[str, str]) -> None:
    shutil.rmtree(scene.home)
    perform("10", scene.values, scene.folder, env)
    now = tree(scene.home)
    assert {path: now.get(path) for path in saved(scene)} == saved(scene)
    assert set(now) - set(saved(scene)) == {"data/logs", "data/backups"}
    assert books(scene.place.database) == 50


def test_11_migration_to_another_server(scene: Scene, env: dict[str, str], server: str) -> None:
    new = {
        "STORE": str(scene.work / "carried"),
        "TARGET": str(scene.place.folder / "new-server/bibliotheca"),
        "WORK": str(scene.place.folder / "new-server/restore"),
    }
    perform("11", scene.values, scene.folder, {**env, "PREFECT_API_URL": server}, new)
    there = Path(new["TARGET"])
    assert books(there / "data/kuzu/bibliotheca.db") == 51
    assert (there / "data/covers/later.jpg").read_bytes() == b"newer than the backup"
    assert (there / "config.py").read_text() == "DEBUG = True\n"


def test_14_an_encrypted_archive(scene: Scene, env: dict[str, str]) -> None:
    if shutil.which("age") is None:
        pytest.skip("no age here: apt-get install age")
    key, vault = scene.folder / "age.key", scene.folder / "vault"
    recipient = new_key(key)
    store = LocalStore(name="vault", path=vault, age=Age(recipients=(recipient,)))
    settings = scene.place.settings.model_copy(update={"stores": {"vault": store}})
    now = real_backup.take(settings, NEWEST)
    values = {**scene.values, "STORE": str(vault)}
    given = {"KEY": str(key), "ENCRYPTED": "full_20260301_020000.tar.gz.age"}
    perform("14", values, scene.folder, env, given)
    assert (scene.work / "new/data/covers/later.jpg").read_bytes() == b"newer than the backup"
    assert books(scene.work / "whole/data/kuzu/bibliotheca.db") == 51
    assert now.archive is not None and now.archive.encryption == f"age {recipient}"


def test_16_a_folder_that_rsync_made(scene: Scene, env: dict[str, str]) -> None:
    disk = local_store(scene.folder / "disk", name="disk")
    settings = scene.place.settings.model_copy(update={"stores": {"disk": disk}})
    for instant in (BEFORE, NEWEST):
        real_backup.take(settings, instant)
    perform("16", {**scene.values, "STORE": str(disk.path)}, scene.folder, env, {"BACKUP": "full_20260301_020000"})
    assert (scene.work / "new/data/covers/later.jpg").read_bytes() == b"newer than the backup"
    assert books(scene.work / "new/data/kuzu/bibliotheca.db") == 51


def test_17_a_repository_of_borg(scene: Scene, env: dict[str, str]) -> None:
    if shutil.which("borg") is None:
        pytest.skip("borg is not installed")
    store = borg_store(scene.folder / "borg", name="vault")
    settings = scene.place.settings.model_copy(update={"stores": {"vault": store}})
    for instant in (BEFORE, NEWEST):
        real_backup.take(settings, instant)
    values = {"REPOSITORY": store.repository, "KEY": str(store.password_file), "BACKUP": "full_20260301_020000"}
    perform("17", scene.values, scene.folder, {**env, "BORG_BASE_DIR": str(store.base)}, values)
    (later,) = (scene.work / "extracted").rglob("covers/later.jpg")
    (database,) = (scene.work / "extracted").rglob("bibliotheca.db")
    assert later.read_bytes() == b"newer than the backup" and books(database) == 51


def test_18_a_remote_that_rclone_filled(scene: Scene, env: dict[str, str]) -> None:
    store = rclone_store(scene.folder / "remote", name="cloud")
    settings = scene.place.settings.model_copy(update={"stores": {"cloud": store}})
    for instant in (BEFORE, NEWEST):
        real_backup.take(settings, instant)
    values = {"REMOTE": store.remote, "BACKUP": "full_20260301_020000"}
    perform("18", scene.values, scene.folder, {**env, "RCLONE_CONFIG": str(store.config)}, values)
    copied = scene.work / "copied/contents/data"
    assert (copied / "covers/later.jpg").read_bytes() == b"newer than the backup"
    assert (scene.work / "older/a.jpg").exists() and books(copied / "kuzu/bibliotheca.db") == 51


GOLDEN = runbook.ROOT / "tests" / "golden" / "version-1"


@pytest.mark.parametrize(
    "archive", sorted(path.name for path in GOLDEN.glob("bibliotheca/*.tar*") if path.suffix in (".tar", ".gz"))
)
def test_the_commands_of_the_format_read_a_golden_backup(archive: str, tmp_path: Path, env: dict[str, str]) -> None:
    """Also the reader in the document, on every difficult name."""
    book = console.chapters(DOCS / "format.md")
    assert list(book) == ["Sealed JSON", "A reader"]
    values = {"STORE": str(GOLDEN), "LIBRARY": "bibliotheca", "ARCHIVE": archive, "WORK": str(tmp_path)}
    assert all({*step.given, "WORK"} == values.keys() for chapter in book.values() for step in chapter.steps)
    seal, reader = (console.run(chapter.steps, tmp_path, {**env, **values}) for chapter in book.values())
    assert [outcome.status for outcome in (*seal, *reader)] == [0] * 4, (seal, reader)
    assert seal[1].output == seal[2].output and len(seal[1].output) == 65
    assert re.match(r"sound: \d+ members, \d+ bytes\n\Z", reader[0].output)


def test_the_reader_of_the_format_finds_damage(tmp_path: Path, env: dict[str, str]) -> None:
    archive = "full_20260303_020304.tar"
    shutil.copytree(GOLDEN, tmp_path / "store")
    manifest = tmp_path / "store/bibliotheca" / f"{archive}.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"data/odd/plain.txt"', b'"data/odd/Plain.txt"'))
    values = {"STORE": str(tmp_path / "store"), "LIBRARY": "bibliotheca", "ARCHIVE": archive, "WORK": str(tmp_path)}
    steps = console.chapters(DOCS / "format.md")["A reader"].steps
    (outcome,) = console.run(steps, tmp_path, {**env, **values})
    assert outcome.status == 1 and "altered manifest" in outcome.output


def test_no_document_has_commands_that_nobody_runs() -> None:
    """The runbook, the format and the stores are run; a block in another document names why it is not run."""
    for path in sorted(DOCS.glob("**/*.md")):
        book = console.chapters(path)
        if path.name in ("runbook.md", "format.md", "stores.md"):  # the last: test_stores_document, test_restic_store
            continue
        blocks = [step for chapter in book.values() for step in chapter.steps]
        assert [f"{path.name}:{block.line}" for block in blocks if not block.reason] == []


def test_every_chapter_with_commands_has_its_test() -> None:
    files = Path(__file__).parent.glob("test_documents*.py")
    tested = {number for file in files for number in re.findall(r"^def test_(\d+)_", file.read_text(), re.MULTILINE)}
    assert tested == set(runbook.BOOK) - {"Variables"}


def test_no_command_hides_in_the_prose() -> None:
    hidden = [
        f"{number}: {found}"
        for number, line in enumerate(runbook.PATH.read_text().splitlines(), 1)
        for found in _INLINE.findall(line)
    ]
    assert hidden == []
