"""A tree of files: what of it is surveyed, and how it comes back over the living one."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from scriptorium.errors import NotFound, RestoreFailed
from scriptorium.model import Part
from scriptorium.sources import FilesSource
from scriptorium.sources.files_restore import FilesElsewhere, FilesIncoming
from scriptorium.sources.mounts import mounted_in

RESTORE = "0123456789ab"
Node = dict[str, "Node"] | bytes | str  # folder, file, symlink
Tree = dict[str, Node]
ODD = os.fsdecode(b"\xff\n")


def part(place: str = "data", files: int = 3) -> Part:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return Part("data", "files", place, 0, files, moment, moment, "")


def build(folder: Path, tree: Tree) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    for name, node in tree.items():
        path = folder / name
        if isinstance(node, dict):
            build(path, node)
        elif isinstance(node, bytes):
            path.write_bytes(node)
        else:
            path.symlink_to(node)


def seen(folder: Path) -> Node:
    """The tree as it is on disk, but for a restore's own folders."""
    if folder.is_symlink():
        return os.readlink(folder)  # noqa: PTH115  exactly as it was written
    if not folder.is_dir():
        return folder.read_bytes()
    return {entry.name: seen(entry) for entry in folder.iterdir() if not entry.name.startswith(".scriptorium-")}


def facts(folder: Path) -> dict[str, tuple[object, ...]]:
    """Every byte, mode, owner and time of files, and modes and owners of folders."""
    found: dict[str, tuple[object, ...]] = {}
    for path in (folder, *sorted(folder.rglob("*"))):
        info = path.lstat()
        kind = stat.S_IFMT(info.st_mode)
        common = (kind, stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid)
        if stat.S_ISDIR(info.st_mode):
            found[str(path.relative_to(folder))] = common
        elif stat.S_ISLNK(info.st_mode):
            found[str(path.relative_to(folder))] = (*common, os.readlink(path), info.st_mtime_ns)  # noqa: PTH115
        else:
            found[str(path.relative_to(folder))] = (*common, path.read_bytes(), info.st_mtime_ns, info.st_ino)
    return found


def bring(incoming: FilesIncoming, tree: Tree, place: str = "data") -> None:
    """What unpacking does: every member where it is wanted."""
    incoming.prepare()
    root = incoming.receive(place)
    assert root is not None
    build(root, tree)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "living"


def source_of(path: Path, **more: object) -> FilesSource:
    return FilesSource.model_validate({"name": "data", "path": path, **more})


def incoming_of(source: FilesSource, **more: object) -> FilesIncoming:
    found = source.incoming(part(source.place), RESTORE, **more)  # type: ignore[arg-type]
    assert isinstance(found, FilesIncoming)
    return found


# --- out --------------------------------------------------------------------------------------------------------------


def test_a_survey_counts_what_would_be_packed(home: Path) -> None:
    build(home, {"a": b"12345", "b": {"c": b"123", "d.tmp": b"x" * 100}, "link": "a", "store": {"x.tar": b"y" * 1000}})
    source = source_of(home, exclude=["*.tmp"])
    found = source.survey((home / "store",))
    assert (found.bytes, found.files, found.staged_bytes) == (8, 3, 0)
    assert source.capture(home) is None and list(source.holders()) == [] and source.quiesce is None


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    source = source_of(tmp_path / "nothing")
    for attempt in (lambda: source.survey(()), lambda: source.capture(tmp_path)):
        with pytest.raises(NotFound) as caught:
            attempt()
        assert str(tmp_path / "nothing") in str(caught.value)


def test_what_is_examined_is_read_where_it_lies(home: Path) -> None:
    build(home, {"a": b"1"})
    staged = source_of(home, at="", include=["/a"], exclude=["b"]).examine(home, (Path("/store"),))
    (tree,) = staged.trees
    assert (tree.root, tree.at, tree.include, tree.exclude) == (str(home), "", ("/a",), ("b",))
    assert tree.never == ("/store",) and staged.path == "" and staged.tables is None


def test_who_has_files_open_is_known_but_does_not_stand_in_the_way(home: Path) -> None:
    build(home, {"a": b"1"})
    child = subprocess.Popen(["tail", "-f", str(home / "a")], stdout=subprocess.DEVNULL)
    try:
        source = source_of(home)
        while not list(source.writers()) and child.poll() is None:
            pass
        assert [holder.pid for holder in source.writers()] == [child.pid] and list(source.holders()) == []
    finally:
        child.kill()
        child.wait()


# --- back, over the living tree ---------------------------------------------------------------------------------------

LIVING: Tree = {
    "kept.log": b"excluded",
    "old": b"goes",
    "same": b"former",
    "folder": {"x": b"former x", "deep": {"kept.log": b"excluded, deep", "y": b"former y"}},
    "gone": {"z": b"goes with its folder"},
    "link": "same",
    ODD: b"former odd",
    "now a file": {"was": b"a folder"},
    "now a folder": b"was a file",
}
ARCHIVE: Tree = {
    "same": b"restored",
    "folder": {"x": b"restored x", "deep": {"y": b"restored y", "new": b"n"}, "empty": {}},
    "link": "elsewhere",
    ODD: b"restored odd",
    "now a file": b"a file",
    "now a folder": {"holds": b"a file"},
    "new": {"w": b"w"},
}
RESTORED: Tree = {
    **ARCHIVE,
    "kept.log": b"excluded",
    "folder": {
        "x": b"restored x",
        "deep": {"kept.log": b"excluded, deep", "y": b"restored y", "new": b"n"},
        "empty": {},
    },
}


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
    before = facts(home)
    incoming = incoming_of(source_of(home, exclude=["*.log"]))
    bring(incoming, ARCHIVE)
    incoming.switch()
    incoming_of(source_of(home)).undo()  # another process, after a crash; the settings have changed since
    assert facts(home) == before


def test_what_is_not_the_source_s_stays_whatever_the_patterns_say(home: Path) -> None:
    """The store inside the folder that is restored: its archives are not among what was saved."""
    build(
        home, {"a": b"former", "backups": {"lib": {"x.tar.gz": b"a backup"}}, "g.db": b"a database", "sub": {"b": b"1"}}
    )
    never = (home / "backups", home / "g.db")
    incoming = incoming_of(source_of(home), never=never)
    bring(incoming, {"a": b"restored"})
    incoming.switch()
    incoming.finish()
    assert seen(home) == {"a": b"restored", "backups": {"lib": {"x.tar.gz": b"a backup"}}, "g.db": b"a database"}


def test_with_include_only_what_is_included_is_replaced(home: Path) -> None:
    build(home, {"config.py": b"former", ".env": b"former", "data": {"x": b"1"}, "other": b"2"})
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
    assert stat.S_IMODE(home.stat().st_mode) == 0o755, "the archive says nothing of this folder"


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
            "x": b"former x",
            "deep": {"kept.log": b"excluded, deep", "y": b"former y", "new": b"n"},
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
    before = facts(home)
    incoming = incoming_of(source_of(home, exclude=["*.log"]))
    bring(incoming, {"a": b"now a file", "b": b"3"})
    with pytest.raises(RestoreFailed, match="in the way"):
        incoming.switch()
    incoming.undo()
    assert facts(home) == before


def test_a_lost_folder_comes_back_with_its_mode_and_owner(tmp_path: Path) -> None:
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
    (root / "kuzu" / ".scriptorium-restore-other").mkdir()
    incoming.switch()
    assert stat.S_IMODE(root.stat().st_mode) == 0o750
    incoming.finish()
    assert seen(root) == {"a": b"1", "kuzu": {}}
    assert (root / "kuzu" / ".scriptorium-restore-other").is_dir()


@pytest.mark.parametrize("living", [None, b"former", "link"])
@pytest.mark.parametrize("at", ["app.conf", ""])
def test_a_single_file_comes_back_whether_or_not_it_is_there(tmp_path: Path, living: Node | None, at: str) -> None:
    folder = tmp_path / "etc"
    build(folder, {"beside": b"not ours"})
    path = folder / "app.conf"
    if isinstance(living, bytes):
        path.write_bytes(living)
    elif living == "link":
        (tmp_path / "real.conf").write_bytes(b"former")
        path.symlink_to(tmp_path / "real.conf")
    before = facts(tmp_path)
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
            assert facts(tmp_path) == before
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
    build(tmp_path / "real", {"a": b"former", "b": b"goes"})
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


def test_into_a_folder_members_lie_as_the_archive_has_them(tmp_path: Path) -> None:
    way = source_of(Path("/nowhere")).incoming(part("data"), RESTORE, into=tmp_path)
    assert isinstance(way, FilesElsewhere)
    assert way.receive("data/a/b") == tmp_path / "data/a/b" and way.receive("data") == tmp_path / "data"
    assert way.receive("database/a") is None and way.receive("dat") is None


# --- filesystems inside the tree --------------------------------------------------------------------------------------


@pytest.fixture
def mount() -> Iterator[Callable[..., None]]:
    mounted: list[Path] = []

    def mount(at: Path, *how: str) -> None:
        command = ["mount", *how, str(at)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
            pytest.skip("mounting needs root, where mounting is allowed")
        mounted.append(at)

    yield mount
    for at in reversed(mounted):
        subprocess.run(["umount", str(at)], check=True)


@pytest.mark.parametrize("kind", ["tmpfs", "bind", "file"])
def test_what_is_mounted_inside_is_never_switched_nor_removed(
    home: Path, tmp_path: Path, mount: Callable[..., None], kind: str
) -> None:
    build(home, {"a": b"former", "sub": {"disk and more": {}, "conf": b"", "b": b"1"}})
    if kind == "tmpfs":
        mount(point := home / "sub" / "disk and more", "-t", "tmpfs", "tmpfs")
        (point / "precious").write_bytes(b"p")
    elif kind == "bind":  # of the same filesystem: the device number tells nothing
        build(tmp_path / "elsewhere", {"precious": b"p"})
        mount(point := home / "sub" / "disk and more", "--bind", str(tmp_path / "elsewhere"))
    else:
        (tmp_path / "precious").write_bytes(b"p")
        mount(point := home / "sub" / "conf", "--bind", str(tmp_path / "precious"))
    assert list(mounted_in(home)) == [point] and list(mounted_in(home / "a")) == []
    before = facts(home)
    incoming = incoming_of(source_of(home))
    bring(incoming, {"a": b"restored", "sub": {"b": b"2"}})
    with pytest.raises(RestoreFailed) as caught:
        incoming.switch()
    assert str(point) in str(caught.value) and "unmount" in caught.value.hint
    incoming.undo()
    assert facts(home) == before
    pattern = "conf" if kind == "file" else "disk*"
    excluding = incoming_of(source_of(home, exclude=[pattern]))
    bring(excluding, {"a": b"restored", "sub": {"b": b"2"}})
    excluding.switch()
    excluding.finish()
    assert (home / "sub" / "b").read_bytes() == b"2"
    assert (point.read_bytes() if kind == "file" else (point / "precious").read_bytes()) == b"p"


def test_a_single_file_that_is_mounted_is_refused(tmp_path: Path, mount: Callable[..., None]) -> None:
    (tmp_path / "app.conf").write_bytes(b"former")
    (tmp_path / "real").write_bytes(b"mounted")
    mount(tmp_path / "app.conf", "--bind", str(tmp_path / "real"))
    source = source_of(tmp_path / "app.conf")
    incoming = source.incoming(part(files=1), RESTORE)
    incoming.prepare()
    place = incoming.receive("data")
    assert place is not None
    place.write_bytes(b"restored")
    with pytest.raises(RestoreFailed):
        incoming.switch()
    incoming.undo()
    assert (tmp_path / "app.conf").read_bytes() == b"mounted"


def test_a_root_that_is_a_filesystem_of_its_own_is_restored(home: Path, mount: Callable[..., None]) -> None:
    home.mkdir()
    mount(home, "-t", "tmpfs", "tmpfs")
    build(home, LIVING)
    incoming = incoming_of(source_of(home, exclude=["*.log"]))
    bring(incoming, ARCHIVE)
    incoming.switch()
    incoming.finish()
    assert seen(home) == RESTORED


# --- whatever the trees, wherever it stops ----------------------------------------------------------------------------

NAMES = ["a", "b", "c", "d.keep", ODD]
LEAVES = st.sampled_from([b"1", b"2", b""]) | st.sampled_from(["a", "../x"])


def trees(names: list[str]) -> st.SearchStrategy[Tree]:
    node: st.SearchStrategy[Node] = st.recursive(
        LEAVES, lambda below: st.dictionaries(st.sampled_from(names), below, max_size=3), max_leaves=8
    )
    return st.dictionaries(st.sampled_from(names), node, max_size=4)


def expected(living: Tree, archive: Tree) -> Tree | None:
    """What a restore makes of a living tree: the archive's, and every ``*.keep`` where it was. ``None``: impossible."""
    kept = keeping(living)
    return None if kept is None else overlaid(kept, archive)


def keeping(tree: Tree) -> Tree:
    found: Tree = {}
    for name, node in tree.items():
        if name.endswith(".keep"):
            found[name] = node
        elif isinstance(node, dict) and (below := keeping(node)):
            found[name] = below
    return found


def overlaid(kept: Tree, archive: Tree) -> Tree | None:
    found: Tree = {**kept}
    for name, node in archive.items():
        under = kept.get(name)
        if isinstance(under, dict):
            if not isinstance(node, dict):
                return None
            below = overlaid(under, node)
            if below is None:
                return None
            found[name] = below
        else:
            found[name] = node
    return found


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example({"a": {"d.keep": b"1"}}, {"a": b"2"}, 0)
@example(LIVING, ARCHIVE, 5)
@given(trees(NAMES), trees([name for name in NAMES if not name.endswith(".keep")]), st.integers(0, 12))
def test_a_restore_that_stops_anywhere_goes_back_and_one_that_does_not_is_right(
    living: Tree, archive: Tree, steps: int
) -> None:
    class Crash(BaseException):
        pass

    count = 0
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        nonlocal count
        if count == steps:
            raise Crash
        count += 1
        return real(self, target)

    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    try:
        home = folder / "living"
        build(home, living)
        before = facts(home)
        source = source_of(home, exclude=["*.keep"])
        incoming = incoming_of(source)
        bring(incoming, archive)
        stopped: BaseException | None = None
        with mock.patch.object(Path, "rename", rename):
            try:
                incoming.switch()
            except (Crash, RestoreFailed) as error:
                stopped = error
        wanted = expected(living, archive)
        if stopped is not None:
            assert isinstance(stopped, Crash) or wanted is None
            incoming_of(source).undo()
            assert facts(home) == before
        else:
            assert seen(home) == wanted
            incoming_of(source).finish()
            assert seen(home) == wanted
        assert not list(folder.rglob(".scriptorium-*"))
    finally:
        shutil.rmtree(folder)
