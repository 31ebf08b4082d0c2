"""What restic alone does: changes between two readings, snapshots of others, locks, passwords, and restic without
us."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prepared_backup import LABEL, LATER, folder_of_everything, prepared
from restic_repository import PASSWORD, damage_pack, environment, new_store, restic_store

from scriptorium.errors import DamageFound, NotFound, SettingsError, StoreRefused, StoreUnavailable
from scriptorium.members import write_members
from scriptorium.operations.copies import check, put
from scriptorium.settings import load
from scriptorium.stores import ResticStore, Share
from scriptorium.stores.trees.restic import lookup, saving, verification
from scriptorium.stores.trees.restic.saving import save_contents, save_manifest
from scriptorium.words import Compression
from scriptorium.workspace import find_space

DOCUMENT = Path(__file__).parents[2] / "docs" / "stores.md"
pytestmark = pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed")


@pytest.fixture
def store(tmp_path: Path) -> ResticStore:
    return restic_store(tmp_path / "restic")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return folder_of_everything(tmp_path / "data")


def run(store: ResticStore, *words: str, **how: object) -> subprocess.CompletedProcess[bytes]:
    """restic, as a person runs it."""
    return subprocess.run(["restic", *words], env=environment(store), check=True, capture_output=True, **how)  # type: ignore[call-overload, no-any-return]


def stored(store: ResticStore, data: Path, meanwhile: Callable[[], object] = lambda: None) -> str:
    one = prepared(data, store)
    meanwhile()
    return put(store, Compression.GZIP, one, check(one)).key


def test_what_changes_between_our_reading_and_restics_is_named(store: ResticStore, data: Path, tmp_path: Path) -> None:
    (data / "gone").write_text("gone")
    (data / "touched").write_text("the same")

    def meanwhile() -> None:
        (data / "noise").write_bytes(b"later" * 999)
        (data / "gone").unlink()
        (data / "touched").chmod(0o640)

    key = stored(store, data, meanwhile)
    manifest = store.manifest(key)
    assert manifest.warnings == (
        "data/gone: vanished before restic read it",
        "data/noise: changed after it was read: the copy has its later state",
    )
    assert manifest.parts[0].bytes == 4995 + 3 + 8 and manifest.unsaved_count == 0
    assert store.verify(key).sound
    with store.members(key) as members:
        write_members(
            members, lambda path: tmp_path / "back" / path, roots=[tmp_path / "back"], expected=manifest.files
        )
    assert (tmp_path / "back/data/noise").read_bytes() == b"later" * 999
    assert not (tmp_path / "back/data/gone").exists()


def test_a_folder_that_became_a_link_is_named(store: ResticStore, data: Path) -> None:
    """As a deployment does it: the files are the same, and restic saves the link alone."""
    (data / "sub" / "file").write_text("precious")

    def meanwhile() -> None:
        (data / "sub").rename(data / "sub.v1")
        (data / "sub").symlink_to("sub.v1")

    key = stored(store, data, meanwhile)
    manifest = store.manifest(key)
    assert "data/sub/file: could not be read by restic, skipped" in manifest.warnings and manifest.unsaved_count == 2
    assert store.verify(key).sound


@pytest.mark.parametrize("again", [False, True])
def test_a_folder_that_was_away_while_restic_read_is_named(
    store: ResticStore, data: Path, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is away for a short time: its contents are the same before and after."""
    (data / "sub" / "file").write_text("precious")
    if again:
        stored(store, data)
    real = saving._backup

    def away(*words: Any) -> Any:
        (data / "sub").rename(data.parent / "away")
        try:
            return real(*words)
        finally:
            (data.parent / "away").rename(data / "sub")

    monkeypatch.setattr(saving, "_backup", away)
    one = prepared(data, store, label=f"{LABEL}-2")
    key = put(store, Compression.GZIP, one, check(one)).key
    assert store.manifest(key).unsaved_count == 2 and store.verify(key).sound


def test_nothing_is_looked_up_where_nothing_changed(
    store: ResticStore, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup, "nodes", lambda *_: pytest.fail("looked up"))
    stored(store, data)


def test_a_tree_that_is_gone_is_not_saved(store: ResticStore, data: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="what was read for the backup is gone"):
        stored(store, data, lambda: data.rename(tmp_path / "gone"))
    assert list(store.list()) == []


def test_many_files_that_vanished_are_counted(store: ResticStore, data: Path) -> None:
    for number in range(50):
        (data / "sub" / f"{number:02}").touch()
    warnings = store.manifest(stored(store, data, lambda: shutil.rmtree(data / "sub"))).warnings
    assert len(warnings) < 30 and "31 more files: vanished before restic read it" in warnings


def test_an_attribute_that_no_tar_stream_can_hold_is_restored(store: ResticStore, data: Path) -> None:
    try:
        os.setxattr(data / "noise", "user.a=b", b"value")
    except OSError:
        pytest.skip("this filesystem has no attributes")
    key = stored(store, data)
    assert store.verify(key).sound
    with store.members(key) as members:
        assert {"user.a=b": b"value"} in [dict(member.xattrs) for member in members]


def test_snapshots_of_others_are_left_alone(store: ResticStore, data: Path) -> None:
    run(store, "backup", "--stdin", "--tag=mine", input=b"theirs")
    assert list(store.list()) == [] and store.usage()[0] == 0
    key = stored(store, data)
    store.remove(key)
    assert store.sweep(datetime.now(UTC) + LATER) == ()
    (left,) = json.loads(run(store, "snapshots", "--json").stdout)
    assert left["tags"] == ["mine"] and run(store, "dump", "latest", "/stdin").stdout == b"theirs"


def test_a_users_snapshot_with_our_word_as_tag_is_left_alone(store: ResticStore, data: Path) -> None:
    run(store, "backup", "--stdin", "--tag=scriptorium", input=b"theirs")
    run(store, "backup", "--stdin", "--tag=scriptorium,role=contents", input=b"theirs")
    store.remove(stored(store, data))
    assert store.sweep(datetime.now(UTC) + LATER) == () and list(store.list()) == []
    assert len(json.loads(run(store, "snapshots", "--json").stdout)) == 2


@pytest.mark.parametrize("kept_inline", [10_000, 1])
def test_a_share_is_not_sound_without_its_contents(
    store: ResticStore, data: Path, kept_inline: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repository itself is sound: a snapshot was removed by hand."""
    monkeypatch.setattr("scriptorium.members.ledger.INLINE", kept_inline)
    key = stored(store, data)
    assert store.verify(key, share=Share(1, 2)).sound
    assert not store.verify("lib/nothing", share=Share(1, 2)).sound
    found = json.loads(run(store, "snapshots", "--json", "--tag=scriptorium,role=contents").stdout)
    run(store, "forget", "--prune", found[0]["id"])
    damage = store.verify(key, share=Share(1, 2)).damage
    assert len(damage) == 3 and damage[0].startswith("missing member: data/"), damage
    assert any("the snapshot of its contents is missing" in one for one in store.verify(key).damage)


def test_the_first_backup_makes_the_repository(data: Path, tmp_path: Path) -> None:
    store = new_store(tmp_path / "new")
    assert list(store.list()) == [] and store.is_free("lib", LABEL) and not store.snapshots()
    store.remove("lib/nothing")
    with pytest.raises(NotFound):
        store.manifest("lib/nothing")
    key = stored(store, data)
    assert [found.key for found in store.list()] == [key]
    assert store.initialize() == "the repository is there"
    other = store.model_copy(update={"password_file": None, "password_env": "NO_SUCH_VARIABLE"})
    with pytest.raises(SettingsError, match="NO_SUCH_VARIABLE"):
        list(other.list())


def test_a_wrong_password_is_reported(store: ResticStore, tmp_path: Path) -> None:
    wrong = store.model_copy(update={"password_file": None, "password_command": "echo wrong"})
    with pytest.raises(StoreRefused, match="does not open with this password"):
        list(wrong.list())
    right = store.model_copy(update={"password_file": None, "password_command": f"echo '{PASSWORD}'"})
    assert list(right.list()) == []
    with pytest.raises(StoreRefused, match="cannot be had"):
        list(store.model_copy(update={"password_file": tmp_path / "no such file"}).list())


def abandoned_lock(store: ResticStore, *before: str) -> None:
    """A restic that is killed during its work leaves its lock."""
    words = [*before, "restic", "backup", "--stdin"]
    locks = Path(store.repository) / "locks"
    child = subprocess.Popen(words, env=environment(store), stdin=subprocess.PIPE, start_new_session=True)
    try:
        until = time.monotonic() + 30
        while not any(len(lock.name) == 64 for lock in locks.iterdir()) and time.monotonic() < until:
            time.sleep(0.02)
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
    assert list(locks.iterdir())


def test_the_lock_of_a_dead_run_of_this_host_is_removed(store: ResticStore, data: Path) -> None:
    key = stored(store, data)
    abandoned_lock(store)
    store.remove(key)
    assert list(store.list()) == [] and not list((Path(store.repository) / "locks").iterdir())


@pytest.mark.parametrize(
    "work",
    [
        lambda store, key, data: list(store.list()),
        lambda store, key, data: store.verify(key),
        lambda store, key, data: store.verify(key, share=Share(1, 2)),
        lambda store, key, data: store.annotate(key, store.annotations(key)),
        lambda store, key, data: save_contents(store.program, next(iter(data.packages.values())), "put", ()),
        lambda store, key, data: store.remove(key),
    ],
    ids=["list", "verify", "share", "annotate", "backup", "remove"],
)
def test_a_dead_run_that_had_the_repository_alone_stops_nothing(
    store: ResticStore, data: Path, work: Callable[[ResticStore, str, object], object]
) -> None:
    key = stored(store, data)
    one = prepared(data, store, label=f"{LABEL}-2")
    child = subprocess.Popen(["restic", "check", "--read-data"], env=environment(store), start_new_session=True)
    locks, until = Path(store.repository) / "locks", time.monotonic() + 30
    while not any(len(lock.name) == 64 for lock in locks.iterdir()) and time.monotonic() < until:
        time.sleep(0.005)
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()
    assert list(locks.iterdir())
    work(store, key, one)


def test_the_lock_of_another_host_is_respected_and_named(store: ResticStore, data: Path) -> None:
    elsewhere = ("unshare", "--uts", "sh", "-c", 'echo elsewhere >/proc/sys/kernel/hostname && exec "$@"', "sh")
    if os.geteuid() != 0 or subprocess.run([*elsewhere, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no namespace of our own can be had")
    abandoned_lock(store, *elsewhere)
    key = stored(store, data)  # a backup needs nobody's lock
    with pytest.raises(StoreUnavailable, match=r"locked by PID \d+ on elsewhere"):
        store.remove(key)
    assert len(list((Path(store.repository) / "locks").iterdir())) == 1


def test_a_copy_that_restic_made_is_the_same_backup(store: ResticStore, data: Path, tmp_path: Path) -> None:
    key = stored(store, data)
    other = restic_store(tmp_path / "other")
    source = ("--from-repo", store.repository)
    more = {"RESTIC_FROM_PASSWORD_FILE": str(store.password_file)}
    subprocess.run(["restic", "copy", *source], env={**environment(other), **more}, check=True, capture_output=True)
    assert [found.key for found in other.list()] == [key] and other.verify(key).sound
    assert other.annotations(key).verification is not None


def test_excluded_files_are_not_in_the_repository(store: ResticStore, data: Path) -> None:
    os.mkfifo(data / "pipe")
    stored(store, data)
    listed = run(store, "ls", "latest", "--tag=scriptorium,role=contents").stdout.decode("utf-8", "replace")
    assert "/data/noise" in listed and "/pipe" not in listed


def aged(folder: Path) -> None:
    """Wait until nothing in it was changed recently: only then does the store remember hashes."""
    newest = max(path.lstat().st_ctime for path in folder.rglob("*"))
    time.sleep(max(0.0, newest + 2.05 - time.time()))


def test_what_is_unchanged_is_not_read_again(
    store: ResticStore, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "large").write_bytes(os.urandom(200_000))
    aged(data)
    hashes, read = tmp_path / "hashes", list[int]()
    real = os.readv

    def counting(descriptor: int, buffers: list[memoryview]) -> int:
        read.append(real(descriptor, buffers))
        return read[-1]

    monkeypatch.setattr(os, "readv", counting)
    first = prepared(data, store, hashes=hashes)
    put(store, Compression.GZIP, first, check(first))
    assert sum(read) == 250_003
    (data / "new [file]*").write_text("new")
    read.clear()
    again = prepared(data, store, label=f"{LABEL}-2", hashes=hashes)
    assert sum(read) == 3 and again.manifest.files.count == first.manifest.files.count + 1
    verified = list[str]()
    monkeypatch.setattr(ResticStore, "verify", lambda *_, **__: verified.append("as a whole"))
    copy = put(store, Compression.GZIP, again, check(again))
    assert verified == [] and copy.verified_at is not None  # only what is new was read back
    monkeypatch.undo()
    assert store.verify(copy.key).sound


def test_what_is_damaged_on_its_way_is_found(
    store: ResticStore, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aged(data)
    hashes = tmp_path / "hashes"
    first = prepared(data, store, hashes=hashes)
    put(store, Compression.GZIP, first, check(first))
    (data / "large").write_bytes(os.urandom(90_000))
    again = prepared(data, store, label=f"{LABEL}-2", hashes=hashes)

    def damaging(*details: object) -> None:
        save_manifest(*details)  # type: ignore[arg-type]
        damage_pack(Path(store.repository))

    monkeypatch.setattr("scriptorium.stores.trees.restic.saving.save_manifest", damaging)
    with pytest.raises(DamageFound, match="reads back differently"):
        put(store, Compression.GZIP, again, check(again))


def test_the_documents_way_without_us(store: ResticStore, data: Path, tmp_path: Path) -> None:
    stored(store, data)
    chapter = DOCUMENT.read_text().partition("### With restic alone")[2]
    commands = [line[2:] for line in chapter.partition("```\n\n")[0].splitlines() if line.startswith("$ ")]
    assert len(commands) == 6
    script = "\n".join(commands).replace("/srv/vault", store.repository).replace("library=bibliotheca", "library=lib")
    script = script.replace("/etc/scriptorium/vault.key", str(store.password_file))
    subprocess.run(["bash", "-euc", script], cwd=tmp_path, check=True, capture_output=True)
    back = tmp_path / "back" / data.relative_to("/")
    assert (back / "noise").read_bytes() == (data / "noise").read_bytes()
    assert (back / os.fsdecode(b"\xff odd\n")).read_text() == "odd"
    assert str(data / "noise").lstrip("/") in (tmp_path / "back" / "SHA256SUMS").read_text("utf-8", "replace")


def test_the_disk_needs_space_for_what_is_new(store: ResticStore, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "scriptorium.toml"
    file.write_text(
        f'workspace = "{tmp_path}/space"\n[libraries.lib]\n'
        f'sources = [{{ name = "data", kind = "files", path = "{data}" }}]\n'
        f'[stores.vault]\nkind = "restic"\nrepository = "{store.repository}"\npassword_file = "{store.password_file}"\n'
    )
    settings = load(file, {})
    assert find_space(settings, settings.library(), ("data",), ("vault",)).copies == {"vault": 50_003}
    stored(store, data)
    assert find_space(settings, settings.library(), ("data",), ("vault",)).copies == {"vault": 0}


def test_a_share_of_the_repository_is_read_once_for_all_backups_of_a_run(
    store: ResticStore, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [stored(store, data)]
    one = prepared(data, store, label=f"{LABEL}-2")
    keys.append(put(store, Compression.GZIP, one, check(one)).key)
    read = list[str]()
    real = verification._read_share
    monkeypatch.setattr(
        verification, "_read_share", lambda program, share: read.append(str(share)) or real(program, share)
    )
    assert all(store.verify(key, share=Share(1, 2)).sound for key in keys)
    assert read == ["1/2"]
    assert store.verify(keys[0], share=Share(1, 2)).sound and read == ["1/2", "1/2"]
