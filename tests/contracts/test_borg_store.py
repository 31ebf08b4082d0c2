"""What borg alone does: changes between two readings, archives of others, locks, odd names, other repositories, and
borg without us."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
import tomllib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from borg_repository import borg_environment, borg_store, damage_segment, new_borg_store
from prepared_backup import LABEL, LATER, folder_of_everything, prepared
from ssh_server import ssh_server

from scriptorium.errors import NoSpace, Protected, StoreRefused, StoreUnavailable
from scriptorium.members import write_members
from scriptorium.operations.copies import check, put
from scriptorium.stores import BorgStore, Share
from scriptorium.stores.trees.borg import archives as ours
from scriptorium.stores.trees.borg import saving
from scriptorium.words import Compression

DOCUMENT = Path(__file__).parents[2] / "docs" / "stores.md"
pytestmark = pytest.mark.skipif(shutil.which("borg") is None, reason="borg is not installed")


@pytest.fixture
def store(tmp_path: Path) -> BorgStore:
    return borg_store(tmp_path / "borg")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return folder_of_everything(tmp_path / "data")


def run(store: BorgStore, *words: str, input: bytes = b"", cwd: Path | None = None) -> str:
    """borg, as a person runs it."""
    done = subprocess.run(
        ["borg", *words], env=borg_environment(store), check=True, capture_output=True, input=input, cwd=cwd
    )
    return done.stdout.decode()


def stored(store: BorgStore, data: Path, meanwhile: Callable[[], object] = lambda: None, label: str = LABEL) -> str:
    one = prepared(data, store, label=label)
    meanwhile()
    return put(store, Compression.GZIP, one, check(one)).key


def test_what_changes_between_our_reading_and_borgs_is_named(store: BorgStore, data: Path, tmp_path: Path) -> None:
    (data / "gone").write_text("gone")
    (data / "touched").write_text("the same")
    (data / "Icon\r").write_text("a name that a list of lines cannot hold")

    def meanwhile() -> None:
        (data / "noise").write_bytes(b"later" * 999)
        (data / "gone").unlink()
        (data / "touched").chmod(0o640)

    key = stored(store, data, meanwhile)
    manifest = store.manifest(key)
    assert manifest.warnings == (
        "data/gone: vanished before borg read it",
        "data/noise: changed after it was read: the copy has its later state",
    )
    assert manifest.unsaved_count == 0 and store.verify(key).sound
    back = tmp_path / "back"
    with store.members(key) as members:
        write_members(members, lambda path: back / path, roots=[back], expected=manifest.files)
    assert (back / "data/noise").read_bytes() == b"later" * 999 and not (back / "data/gone").exists()
    assert (back / "data/Icon\r").read_text() == "a name that a list of lines cannot hold"


def test_a_tree_that_is_gone_is_not_saved_and_its_archive_is_swept(
    store: BorgStore, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(StoreUnavailable, match="what was read for the backup is gone"):
        stored(store, data, lambda: data.rename(tmp_path / "gone"))
    assert list(store.list()) == [] and len(store.sweep(datetime.now(UTC) + LATER)) == 1


def test_unchanged_files_are_not_read_again(store: BorgStore, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = time.time() - 3600
    for number in range(20):
        (data / f"{number}").write_text(f"{number}")
        os.utime(data / f"{number}", (old, old))
    time.sleep(0.1)
    (data / "newest").write_text("borg remembers nothing that is as new as the newest file")
    stored(store, data)
    read = list[int]()
    real = saving._create
    monkeypatch.setattr(saving, "_create", lambda *words: (found := real(*words), read.append(len(found[1])))[0])
    (data / "7").write_text("other")
    key = stored(store, data, label=f"{LABEL}-2")
    assert 1 <= read[0] <= 3 and store.manifest(key).warnings == ()


def test_archives_of_others_and_checkpoints(store: BorgStore, data: Path) -> None:
    run(store, "create", "::theirs", "-", input=b"theirs")
    assert list(store.list()) == [] and store.usage()[0] == 0
    left = ours.name_of("lib", LABEL, ours.CONTENTS, ours.new_put(), "20260102T030405Z") + ".checkpoint"
    run(store, "create", f"::{left}", "-", input=b"a run that was killed leaves it")
    assert not store.is_free("lib", LABEL)
    store.remove(stored(store, data, label=f"{LABEL}-2"))
    assert len(store.sweep(datetime.now(UTC) + LATER)) == 1 and store.is_free("lib", LABEL)
    assert run(store, "list", "--short", "--consider-checkpoints").split() == ["theirs"]
    assert run(store, "extract", "--stdout", "::theirs") == "theirs"


def test_a_repository_is_made_and_another_is_refused(data: Path, tmp_path: Path) -> None:
    store = new_borg_store(tmp_path / "new")
    assert list(store.list()) == [] and store.is_free("lib", LABEL)
    assert [store.initialize(), store.initialize()] == ["a repository was made", "the repository is there"]
    stored(store, data)
    wrong = store.model_copy(update={"password_file": None, "password_command": "echo wrong"})
    with pytest.raises(StoreRefused, match="does not open with this password"):
        list(wrong.list())
    Path(store.repository).rename(tmp_path / "moved")
    moved = store.model_copy(update={"repository": str(tmp_path / "moved")})
    with pytest.raises(StoreRefused, match="at another place before") as refused:
        stored(moved, data, label=f"{LABEL}-2")
    assert "BORG_RELOCATED_REPO_ACCESS_IS_OK=yes" in refused.value.hint
    plain = store.model_copy(update={"repository": str(tmp_path / "plain")})
    plain.model_copy(update={"encryption": "none"}).make()
    with pytest.raises(StoreRefused, match="not encrypted"):
        list(plain.list())


def test_a_lock_of_a_dead_run_goes_and_another_hosts_is_named(store: BorgStore, data: Path) -> None:
    held = ["borg", "with-lock", store.repository, "sleep", "60"]
    elsewhere = ["unshare", "--uts", "sh", "-c", 'echo elsewhere >/proc/sys/kernel/hostname && exec "$@"', "sh"]
    key = stored(store, data)
    lock = Path(store.repository) / "lock.exclusive"
    _killed_with(held, lock, store)
    store.remove(key)
    assert list(store.list()) == [] and not lock.exists()
    if os.geteuid() != 0 or subprocess.run([*elsewhere, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no namespace of our own can be had")
    _killed_with([*elsewhere, *held], lock, store)
    quick = store.model_copy(update={"lock_wait": 0})
    with pytest.raises(StoreUnavailable, match=r"locked by process \d+ on elsewhere"):
        list(quick.list())
    assert lock.exists()


def _killed_with(words: list[str], lock: Path, store: BorgStore) -> None:
    child = subprocess.Popen(words, env=borg_environment(store), start_new_session=True)
    try:
        until = time.monotonic() + 30
        while not lock.exists() and time.monotonic() < until:
            time.sleep(0.02)
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    assert lock.exists()


@pytest.mark.slow
def test_damage_in_the_repository_is_found_by_one_share(store: BorgStore, data: Path) -> None:
    """What the suite of all stores does at length for borg is marked as slow."""
    key = stored(store, data)
    assert store.verify(key, share=Share(1, 1)).sound
    store.annotate(key, replace(store.annotations(key), pinned=True))
    assert store.annotations(key).pinned
    damage_segment(Path(store.repository))
    assert not store.verify(key).sound
    assert [store.verify(key, share=Share(number, 2)).sound for number in (1, 2)].count(False) == 1


def test_a_repository_that_is_full(store: BorgStore, data: Path) -> None:
    place = store.repository
    key = stored(store, data)
    words = ["mount", "-t", "tmpfs", "-o", "size=6m,mode=700", "scriptorium-test", place]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(words, check=False).returncode:
        pytest.skip("no filesystem of our own can be mounted")
    try:
        store.make()
        (data / "large").write_bytes(os.urandom(8 << 20))
        with pytest.raises(NoSpace, match="is full"):
            stored(store, data, label=f"{LABEL}-2")
        assert list(store.list()) == []
    finally:
        subprocess.run(["umount", "-l", place], check=True)
    assert store.verify(key).sound


@pytest.mark.slow
def test_a_server_is_reached_by_ssh(data: Path, tmp_path: Path) -> None:
    server = ssh_server()
    place = {"repository": f"ssh://{server.host}{tmp_path}/there", "ssh_command": shlex.join(server.shared())}
    store = new_borg_store(tmp_path, **place)
    assert store.features.remote and store.folder is None
    key = stored(store, data)
    assert store.verify(key).sound and [found.key for found in store.list()] == [key]
    with pytest.raises(StoreRefused, match="no borg on the server"):
        list(store.model_copy(update={"remote_path": "/no/borg"}).list())
    with pytest.raises(StoreUnavailable, match="the repository does not answer"):
        list(store.model_copy(update={"ssh_command": "ssh -oBatchMode=yes -p 1"}).list())


def test_a_repository_that_can_only_be_read_is_read(store: BorgStore, data: Path) -> None:
    key = stored(store, data)
    place = store.repository
    words = ["mount", "--bind", "-o", "ro", place, place]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(words, check=False).returncode:
        pytest.skip("no filesystem of our own can be mounted")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", place], check=True)
        assert store.verify(key).sound
        with pytest.raises(Protected, match="nothing may be removed"):
            store.remove(key)
        with pytest.raises(StoreRefused, match="may only be read"):
            stored(store, data, label=f"{LABEL}-2")
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_the_settings_of_the_document_are_settings() -> None:
    text = DOCUMENT.read_text()
    chapter = text[text.index("## A repository of borg") : text.index("### With borg alone")]
    (block,) = re.findall(r"```toml\n(.*?)```", chapter, re.DOTALL)
    assert BorgStore.model_validate(tomllib.loads(block)["stores"]["archive"]).encryption == "repokey-blake2"
    keys = set(re.findall(r"^\| (`[a-z_`, ]+`) \|", chapter, re.MULTILINE))
    named = {name for key in keys for name in re.findall(r"`([a-z_]+)`", key)}
    assert named == set(BorgStore.model_fields) - {"kind", "name", "password"}


def test_the_chapter_on_borg_alone(store: BorgStore, data: Path, tmp_path: Path) -> None:
    stored(store, data)
    chapter = DOCUMENT.read_text().partition("### With borg alone")[2]
    commands = [line[2:] for line in chapter.partition("```\n\n")[0].splitlines() if line.startswith("$ ")]
    assert len(commands) == 7
    script = "\n".join(commands).replace("/srv/vault", store.repository).replace("bibliotheca", "lib")
    script = script.replace("/etc/scriptorium/vault.key", str(store.password_file))
    environment = {**os.environ, "BORG_BASE_DIR": str(store.base), "HOME": str(tmp_path)}
    subprocess.run(["bash", "-euc", script], env=environment, check=True, cwd=tmp_path)
    back = tmp_path / "back" / str(data).lstrip("/")
    assert (back / "noise").read_bytes() == (data / "noise").read_bytes()
    assert (back / os.fsdecode(b"\xff odd\n")).read_text() == "odd"
    assert (back / "sub/again").samefile(back / "noise")
