"""A tree of files: what is surveyed, and how it is restored over the living one."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
import subprocess
from pathlib import Path
from typing import Any

import file_trees
import pytest
from file_trees import (
    ARCHIVE,
    LIVING,
    RESTORE,
    RESTORED,
    Node,
    bring,
    build,
    incoming_of,
    part,
    seen,
    source_of,
    state_of,
)

from scriptorium.errors import NotFound, RestoreFailed, SourceUnavailable, UsageError
from scriptorium.fs.access_lists import ACCESS
from scriptorium.fs.descriptors import folder_at
from scriptorium.fs.ours import write_marker
from scriptorium.members import select
from scriptorium.sources import FilesSource
from scriptorium.sources.files.restore import FilesElsewhere

home = file_trees.home  # a fixture, for these tests alone
_NOBODY = 0xFFFFFFFF


# --- out --------------------------------------------------------------------------------------------------------------


def test_a_survey_counts_what_would_be_packed(home: Path) -> None:
    build(home, {"a": b"12345", "b": {"c": b"123", "d.tmp": b"x" * 100}, "link": "a", "store": {"x.tar": b"y" * 1000}})
    source = source_of(home, exclude=["*.tmp"])
    found = source.survey((home / "store",))
    assert (found.bytes, found.files, found.staged_bytes) == (8, 3, 0)
    assert source.capture(home) is None and list(source.holders()) == []


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    source = source_of(tmp_path / "nothing")
    for attempt in (lambda: source.survey(()), lambda: source.capture(tmp_path)):
        with pytest.raises(NotFound) as caught:
            attempt()
        assert str(tmp_path / "nothing") in str(caught.value)


@pytest.mark.parametrize("kind", ["a pipe", "a socket", "a device"])
@pytest.mark.parametrize("linked", [False, True], ids=["itself", "a symlink to it"])
def test_a_source_that_is_no_file_is_refused_with_its_path(home: Path, kind: str, linked: bool) -> None:
    home.mkdir()
    with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(home):  # the path of a socket must be short
        listener.bind("a socket")
    os.mkfifo(home / "a pipe")
    (home / "a device").symlink_to("/dev/null")
    path = home / kind
    if linked:
        path = home / "link"
        path.symlink_to(home / kind)
    source = source_of(path)
    for attempt in (
        lambda: source.survey(()),
        lambda: source.capture(home),
        lambda: list(select(source.tree(), pytest.fail)),
    ):
        with pytest.raises(UsageError) as caught:
            attempt()
        assert f"is {kind}" in str(caught.value) and str(path) in str(caught.value)


def test_a_file_where_patterns_mean_a_folder_is_refused(home: Path) -> None:
    home.write_text("not the folder")
    with pytest.raises(UsageError, match="is a file, and patterns"):
        source_of(home, include=["/config.py"]).survey(())


def test_a_source_that_is_a_symlink_to_a_folder_is_that_folder(home: Path) -> None:
    build(home, {"a": b"12345"})
    home.with_name("link").symlink_to(home)
    source = source_of(home.with_name("link"))
    assert source.survey(()).files == 1 and [one.path for one in select(source.tree(), pytest.fail)] == [
        "data",
        "data/a",
    ]


def test_a_source_behind_a_folder_that_may_not_be_entered_is_reported(home: Path, as_nobody: Any) -> None:
    build(home, {"closed": {"a": b"1"}})
    (home / "closed").chmod(0)
    with as_nobody(), pytest.raises(SourceUnavailable, match="cannot be read") as caught:
        source_of(home / "closed" / "a").survey(())
    (home / "closed").chmod(0o700)
    assert str(home / "closed" / "a") in str(caught.value)


def test_an_examined_dump_is_read_in_place(home: Path) -> None:
    build(home, {"a": b"1"})
    staged = source_of(home, at="", include=["/a"], exclude=["b"]).examine(home, (Path("/store"),))
    (tree,) = staged.trees
    assert (tree.root, tree.at, tree.include, tree.exclude) == (str(home), "", ("/a",), ("b",))
    assert tree.never == ("/store",) and staged.path == "" and staged.tables is None


def test_processes_with_open_files_are_known_but_do_not_prevent_a_restore(home: Path) -> None:
    build(home, {"a": b"1"})
    child = subprocess.Popen(["tail", "-f", str(home / "a")], stdout=subprocess.DEVNULL)
    try:
        source = source_of(home)
        while not list(source.holders()) and child.poll() is None:
            pass
        assert [holder.pid for holder in source.holders()] == [child.pid]
    finally:
        child.kill()
        child.wait()


# --- back, over the living tree ---------------------------------------------------------------------------------------


def test_what_is_selected_is_replaced_and_what_is_excluded_stays(home: Path) -> None:
    build(home, LIVING)
    incoming = incoming_of(source_of(home, exclude=["*.log"]))
    bring(incoming, ARCHIVE)
    assert seen(home) == LIVING
    incoming.switch()
    assert seen(home) == RESTORED
    incoming.finish()
    assert seen(home) == RESTORED
    assert not list(home.glob(".scriptorium-*"))
    incoming.undo()  # does nothing any more
    assert seen(home) == RESTORED


def test_undone_after_the_switch_everything_is_as_it_was(home: Path) -> None:
    build(home, LIVING)
    before = state_of(home)
    incoming = incoming_of(source_of(home, exclude=["*.log"]))
    bring(incoming, ARCHIVE)
    incoming.switch()
    incoming_of(source_of(home)).undo()  # another process, after a crash; the settings have changed since
    assert state_of(home) == before


def test_files_outside_the_backup_stay_whatever_the_patterns_are(home: Path) -> None:
    """The store inside the folder that is restored: its archives are not among what was saved."""
    build(
        home,
        {"a": b"previous", "backups": {"lib": {"x.tar.gz": b"a backup"}}, "g.db": b"a database", "sub": {"b": b"1"}},
    )
    never = (home / "backups", home / "g.db")
    incoming = incoming_of(source_of(home), never=never)
    bring(incoming, {"a": b"restored"})
    incoming.switch()
    incoming.finish()
    assert seen(home) == {"a": b"restored", "backups": {"lib": {"x.tar.gz": b"a backup"}}, "g.db": b"a database"}


def test_with_include_only_what_is_included_is_replaced(home: Path) -> None:
    build(home, {"config.py": b"previous", ".env": b"previous", "data": {"x": b"1"}, "other": b"2"})
    incoming = incoming_of(source_of(home, at="", include=["/config.py", "/.env", "/new.toml"]))
    incoming.prepare()
    for name in ("config.py", "new.toml"):
        place = incoming.receive(name)
        assert place is not None
        place.parent.mkdir(exist_ok=True, mode=0o700)
        place.write_bytes(b"restored")
    incoming.switch()
    incoming.finish()
    assert seen(home) == {"config.py": b"restored", "new.toml": b"restored", "data": {"x": b"1"}, "other": b"2"}
    assert stat.S_IMODE(home.stat().st_mode) == 0o755, "the archive has no mode for this folder"


def test_a_partial_restore_leaves_everything_else(home: Path) -> None:
    build(home, LIVING)
    before = seen(home)
    incoming = incoming_of(source_of(home), partial=True)
    bring(incoming, {"same": b"restored", "folder": {"deep": {"new": b"n"}}})
    incoming.switch()
    incoming.finish()
    assert isinstance(before, dict)
    assert seen(home) == {
        **before,
        "same": b"restored",
        "folder": {
            "x": b"previous x",
            "deep": {"kept.log": b"excluded, deep", "y": b"previous y", "new": b"n"},
        },
    }


def test_a_partial_restore_never_removes_a_folder_for_a_file(home: Path) -> None:
    build(home, LIVING)
    incoming = incoming_of(source_of(home), partial=True)
    bring(incoming, {"now a file": b"a file"})
    with pytest.raises(RestoreFailed, match="in the way"):
        incoming.switch()
    incoming.undo()
    assert seen(home) == LIVING


def test_a_file_does_not_replace_a_folder_that_holds_what_is_not_saved(home: Path) -> None:
    build(home, {"a": {"kept.log": b"k", "x": b"1"}, "b": b"2"})
    before = state_of(home)
    incoming = incoming_of(source_of(home, exclude=["*.log"]))
    bring(incoming, {"a": b"now a file", "b": b"3"})
    with pytest.raises(RestoreFailed, match="in the way"):
        incoming.switch()
    incoming.undo()
    assert state_of(home) == before


def test_a_lost_folder_is_restored_with_its_mode_and_owner(tmp_path: Path) -> None:
    root = tmp_path / "srv" / "app" / "data"
    incoming = incoming_of(source_of(root))
    bring(incoming, ARCHIVE)
    content = incoming.receive("data")
    assert content is not None
    content.chmod(0o2750)
    if os.geteuid() == 0:
        os.chown(content, 1234, 2345)
        content.chmod(0o2750)
    incoming.switch()
    incoming.finish()
    assert seen(root) == ARCHIVE and stat.S_IMODE(root.stat().st_mode) == 0o2750
    assert os.geteuid() != 0 or (root.stat().st_uid, root.stat().st_gid) == (1234, 2345)
    assert list(root.parent.iterdir()) == [root]


def test_a_lost_folder_is_lost_again_when_the_restore_is_undone(tmp_path: Path) -> None:
    root = tmp_path / "data"
    incoming = incoming_of(source_of(root))
    bring(incoming, ARCHIVE)
    incoming.switch()
    assert root.is_dir()
    incoming_of(source_of(root)).undo()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_another_part_made_meanwhile_is_filled(tmp_path: Path) -> None:
    """The database lies inside the lost folder, and its restore made the way to it; the mode is the archive's."""
    root = tmp_path / "data"
    incoming = incoming_of(source_of(root))
    bring(incoming, {"a": b"1", "kuzu": {}})
    content = incoming.receive("data")
    assert content is not None
    content.chmod(0o750)
    (root / "kuzu").mkdir(parents=True)
    other = root / "kuzu" / f".scriptorium-restore-{RESTORE}-graph"
    other.mkdir()
    with folder_at(other) as opened:
        write_marker(opened, RESTORE)
    incoming.switch()
    assert stat.S_IMODE(root.stat().st_mode) == 0o750
    incoming.finish()
    assert seen(root) == {"a": b"1", "kuzu": {}}
    assert other.is_dir()


@pytest.mark.parametrize("living_has", [True, False], ids=["with a list", "without one"])
def test_a_folder_that_stays_takes_the_access_list_of_what_came(home: Path, living_has: bool) -> None:
    """Its mode alone, whose bits for the group are the mask, would open it to the owning group."""
    listed = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", *one)
        for one in ((1, 7, _NOBODY), (2, 7, 1005), (4, 0, _NOBODY), (16, 7, _NOBODY), (32, 0, _NOBODY))
    )
    build(home, {"kept.log": b"excluded", "a": b"previous"})
    home.chmod(0o700)
    incoming = incoming_of(source_of(home, exclude=["*.log"]))
    bring(incoming, {"a": b"restored"})
    content = incoming.receive("data")
    assert content is not None
    content.chmod(0o700)
    try:
        for one, has in ((content, not living_has), (home, living_has)):
            if has:
                os.setxattr(one, ACCESS, listed)
    except OSError:
        pytest.skip("no access lists on this filesystem")
    before = state_of(home)
    incoming.switch()
    assert (ACCESS in os.listxattr(home)) is not living_has
    assert stat.S_IMODE(home.stat().st_mode) == (0o700 if living_has else 0o770)
    incoming.undo()
    assert (ACCESS in os.listxattr(home)) is living_has and state_of(home) == before


@pytest.mark.parametrize("living", [None, b"previous", "link"])
@pytest.mark.parametrize("at", ["app.conf", ""])
def test_a_single_file_is_restored_whether_or_not_it_is_there(tmp_path: Path, living: Node | None, at: str) -> None:
    folder = tmp_path / "etc"
    build(folder, {"beside": b"not ours"})
    path = folder / "app.conf"
    if isinstance(living, bytes):
        path.write_bytes(living)
    elif living == "link":
        (tmp_path / "real.conf").write_bytes(b"previous")
        path.symlink_to(tmp_path / "real.conf")
    before = state_of(tmp_path)
    source = source_of(path, at=at)
    for undo in (True, False):
        incoming = source.incoming(part(at, files=1), RESTORE)
        incoming.prepare()
        place = incoming.receive("app.conf")
        assert place is not None
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(b"restored")
        incoming.switch()
        assert path.read_bytes() == b"restored" and (folder / "beside").read_bytes() == b"not ours"
        if undo:
            source.incoming(part(at, files=1), RESTORE).undo()
            assert state_of(tmp_path) == before
        else:
            incoming.finish()
    assert path.is_symlink() == (living == "link")
    assert not list(tmp_path.rglob(".scriptorium-*"))


def test_two_single_files_of_one_folder_do_not_meet(tmp_path: Path) -> None:
    both = [FilesSource(name=name, path=tmp_path / name) for name in ("a.conf", "b.conf")]
    ways = [source.incoming(part(source.name, files=1), RESTORE) for source in both]
    for way, source in zip(ways, both, strict=True):
        way.prepare()
        place = way.receive(source.name)
        assert place is not None
        place.write_text(source.name)
    for way in ways:
        way.switch()
    for way in ways:
        way.finish()
    assert seen(tmp_path) == {"a.conf": b"a.conf", "b.conf": b"b.conf"}


def test_a_root_that_is_a_symlink_is_followed(tmp_path: Path) -> None:
    build(tmp_path / "real", {"a": b"previous", "b": b"goes"})
    (tmp_path / "data").symlink_to("real")
    incoming = incoming_of(source_of(tmp_path / "data"))
    bring(incoming, {"a": b"restored"})
    incoming.switch()
    incoming.finish()
    assert (tmp_path / "data").is_symlink() and seen(tmp_path / "real") == {"a": b"restored"}


def test_a_restore_that_was_cut_short_is_undone_before_the_next_one_is_prepared(home: Path) -> None:
    build(home, LIVING)
    incoming = incoming_of(source_of(home))
    bring(incoming, ARCHIVE)
    incoming.switch()
    again = incoming_of(source_of(home))
    again.prepare()
    assert seen(home) == LIVING
    again.undo()
    assert seen(home) == LIVING and not list(home.glob(".scriptorium-*"))


def test_into_a_folder_members_are_as_in_the_archive(tmp_path: Path) -> None:
    way = source_of(Path("/nowhere")).incoming(part("data"), RESTORE, into=tmp_path)
    assert isinstance(way, FilesElsewhere)
    assert way.receive("data/a/b") == tmp_path / "data/a/b" and way.receive("data") == tmp_path / "data"
    assert way.receive("database/a") is None and way.receive("dat") is None
