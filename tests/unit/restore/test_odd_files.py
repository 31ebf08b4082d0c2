"""Files that a backup could not read, files with several names, links that lead nowhere: over the living data, into a
folder, and back."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from restore_setup import Home, in_place, supply_of, take

from scriptorium.catalog import Catalog
from scriptorium.errors import NotFound
from scriptorium.manifest import new_id
from scriptorium.operations.drill import drill
from scriptorium.requests import DrillRequest
from scriptorium.restore import preflight_in_place, restore_into, undo
from scriptorium.restore.space import staged_sizes
from scriptorium.words import Status

Nobody = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where another user may enter, too."""
    made = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def library(folder: Path, *more: str) -> Home:
    """A tree of files, its store and workspace beside it, all of it the plain user's."""
    tree = folder / "data"
    for path in ("open.txt", "secret.env", "closed/in.txt", "closed/deep/x.txt", "sub/a.txt", "sub/secret.txt"):
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(f"{path}, at the backup")
    sources = ", ".join(['{ name = "data", kind = "files", path = "data" }', *more])
    (folder / "scriptorium.toml").write_text(
        f'[libraries.lib]\nsources = [{sources}]\n[stores.local]\nkind = "local"\npath = "store"\n'
    )
    return Home(folder)


def owned_by_nobody(folder: Path) -> None:
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, 65534, 65534, follow_symlinks=False)


CLOSED = ("secret.env", "closed", "sub/secret.txt")


def degraded(folder: Path, as_nobody: Nobody) -> Home:
    """A library whose backup lacks what is ``CLOSED``."""
    home = library(folder)
    owned_by_nobody(folder)
    for path in CLOSED:
        (home.data / path).chmod(0)
    with as_nobody():
        take(home.settings)
    for path in CLOSED:
        (home.data / path).chmod(0o700)
    if os.geteuid() == 0:  # whoever restores needs a workspace of their own
        for path in (folder / "store", *(folder / "store").rglob("*")):
            os.chown(path, 0, 0)
    return home


def change(home: Home) -> None:
    for path in ("open.txt", "secret.env", "closed/in.txt", "sub/a.txt", "sub/secret.txt"):
        (home.data / path).write_text(f"{path}, now")
    (home.data / "closed" / "new.txt").write_text("new")
    (home.data / "sub" / "new.txt").write_text("new")


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_restore_in_place_leaves_what_its_backup_could_not_save(folder: Path, as_nobody: Nobody) -> None:
    home = degraded(folder, as_nobody)
    change(home)
    now = contents(home.data)
    supply = supply_of(home.settings)
    assert supply.manifest.unsaved_count == 3
    plan = preflight_in_place(home.settings.library(), supply, new_id())
    (row,) = [row.found for row in plan.rows if "not in the backup" in row.what]
    assert row == "3 (data/closed, data/secret.env, data/sub/secret.txt); the living ones are not changed"
    in_place(home.settings, supply)
    after = {path: text for path, text in contents(home.data).items() if ".scriptorium-" not in path}
    assert after == {
        "open.txt": "open.txt, at the backup",
        "sub/a.txt": "sub/a.txt, at the backup",
        **{path: now[path] for path in ("secret.env", "sub/secret.txt", "closed/in.txt", "closed/new.txt")},
        "closed/deep/x.txt": "closed/deep/x.txt, at the backup",
    }
    undo(home.settings, home.settings.library())
    assert contents(home.data) == now


def test_what_was_asked_for_and_never_saved_is_reported(folder: Path, as_nobody: Nobody) -> None:
    home = degraded(folder, as_nobody)
    with pytest.raises(NotFound) as caught:
        in_place(home.settings, supply_of(home.settings, only=("data/secret.env",)))
    assert "data/secret.env could not be read when the backup was taken" in caught.value.hint
    for inside in ("data/closed/in.txt", "data/closed/**", "data/closed/deep/*"):
        with pytest.raises(NotFound) as caught:
            in_place(home.settings, supply_of(home.settings, only=(inside,)))
        assert "data/closed could not be read" in caught.value.hint and "its contents are missing" in caught.value.hint
    with pytest.raises(NotFound) as caught:
        in_place(home.settings, supply_of(home.settings, only=("data/elsewhere/in.txt",)))
    assert "could not be read" not in caught.value.hint
    restored = in_place(home.settings, supply_of(home.settings))
    assert restored.lacking == (
        "data: the backup lacks 3 that could not be read when it was taken "
        "(data/closed, data/secret.env, data/sub/secret.txt)",
    )


def test_a_drill_proves_what_is_in_it_and_names_what_is_not(folder: Path, as_nobody: Nobody) -> None:
    home = degraded(folder, as_nobody)
    proof = drill(home.settings, DrillRequest()).proof
    (unsaved,) = [check for check in proof.checks if "could not be saved of data" in check.name]
    assert proof.proven and not unsaved.good and unsaved.count == 3
    assert [path.partition(": ")[0] for path in unsaved.first] == [f"data/{path}" for path in sorted(CLOSED)]


def test_where_the_living_is_lost_it_comes_back_without_what_was_not_saved(folder: Path, as_nobody: Nobody) -> None:
    home = degraded(folder, as_nobody)
    shutil.rmtree(home.data)
    in_place(home.settings, supply_of(home.settings))
    assert set(contents(home.data)) == {"open.txt", "sub/a.txt"} and (home.data / "closed").is_dir()
    (home.data / "secret.env").write_text("made anew")
    in_place(home.settings, supply_of(home.settings))
    assert (home.data / "secret.env").read_text() == "made anew"


def test_where_not_all_are_named_nothing_is_removed(
    folder: Path, as_nobody: Nobody, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scriptorium.members.remarks.MOST_UNSAVED", 1)
    home = degraded(folder, as_nobody)
    change(home)
    in_place(home.settings, supply_of(home.settings))
    assert (home.data / "secret.env").read_text() == "secret.env, now" and (home.data / "sub/new.txt").exists()
    assert (home.data / "open.txt").read_text() == "open.txt, at the backup"


def test_one_file_that_is_a_source_and_was_not_read_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The read failed in the middle: the archive has zeros from there on."""
    home = library(folder, '{ name = "conf", kind = "files", path = "app.conf" }')
    (folder / "app.conf").write_text("x = 1")
    real = os.readv

    def failing(descriptor: int, buffers: object) -> int:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == "app.conf":
            raise OSError(5, "Input/output error")
        return real(descriptor, buffers)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "readv", failing)
    take(home.settings)
    monkeypatch.undo()
    assert Catalog(home.settings).find("latest").status is Status.DEGRADED
    in_place(home.settings, supply_of(home.settings))
    assert (folder / "app.conf").read_text() == "x = 1"
    restore_into(supply_of(home.settings), folder / "look", new_id())
    assert (folder / "look" / "conf").read_bytes() == bytes(5)


@pytest.mark.parametrize("many", [False, True], ids=["list in the manifest", "list in a member"])
def test_the_second_name_of_a_file_alone_brings_its_contents(
    folder: Path, many: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if many:
        monkeypatch.setattr("scriptorium.members.ledger.INLINE", 3)
    home = library(folder)
    first = home.data / "open.txt"
    for name in ("sub/second", "sub/third"):
        (home.data / name).hardlink_to(first)
    take(home.settings)
    text = first.read_text()
    restore_into(supply_of(home.settings, only=("**/second",)), folder / "one", new_id())
    assert contents(folder / "one") == {"data/sub/second": text}
    restore_into(supply_of(home.settings, only=("**/third", "**/second")), folder / "two", new_id())
    assert contents(folder / "two") == {"data/sub/second": text, "data/sub/third": text}
    assert (folder / "two/data/sub/second").samefile(folder / "two/data/sub/third")
    restore_into(supply_of(home.settings, only=("**/third", "**/open.txt")), folder / "three", new_id())
    assert (folder / "three/data/open.txt").samefile(folder / "three/data/sub/third")
    first.write_text("now")  # all three names
    in_place(home.settings, supply_of(home.settings, only=("**/second",)))
    assert (home.data / "sub/second").read_text() == text
    assert first.read_text() == (home.data / "sub/third").read_text() == "now", "a living name changes with no other"


def test_names_of_one_file_in_two_sources_come_back_also_across_filesystems(folder: Path, tmp_path: Path) -> None:
    home = library(folder, f'{{ name = "other", kind = "files", path = "{folder}/other" }}')
    (folder / "other").mkdir()
    (folder / "other" / "second").hardlink_to(home.data / "open.txt")
    take(home.settings)
    restore_into(supply_of(home.settings, only=("other",)), folder / "one", new_id())
    text = (home.data / "open.txt").read_text()
    assert contents(folder / "one") == {"other/second": text}
    (tmp_path / "elsewhere").mkdir()
    shutil.rmtree(folder / "other")
    (folder / "other").symlink_to(tmp_path / "elsewhere")  # another disk, on most machines
    restored = in_place(home.settings, supply_of(home.settings))
    assert (folder / "other" / "second").read_text() == text
    apart = folder.stat().st_dev != tmp_path.stat().st_dev
    assert apart is any("other/second: is a file of its own now" in str(one) for one in restored.unset)


LINKS = {
    "nowhere": b"no/such/file",
    "circle": b"link circle",
    "a name too long": b"x" * 300,
    "long": b"y/" * 2000,
    "forbidden": b"/forbidden/secret/folder",
    "device": b"/dev/null",
    "odd steps": b"a//./b/..",
    "raw": b"\xff\xfe",
    "pipe": b"pipe",
    "process": b"/proc/self/fd/0",
}


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_links_are_never_followed_wherever_they_lead(folder: Path, as_nobody: Nobody, user: str) -> None:
    home = library(folder)
    forbidden = folder / "forbidden"
    (forbidden / "secret" / "folder").mkdir(parents=True)
    os.mkfifo(home.data / "pipe")
    for name, target in LINKS.items():
        target = target.replace(b"/forbidden", os.fsencode(forbidden))
        for place in (home.data / f"link {name}", home.data / "sub" / f"link {name}"):
            os.symlink(target, os.fsencode(place))  # noqa: PTH211 -- bytes
    there = {path: path.readlink() for path in home.data.rglob("*") if os.path.islink(path)}  # noqa: PTH114
    owned_by_nobody(folder)
    if os.geteuid() == 0:
        os.chown(forbidden, 0, 0)
    forbidden.chmod(0o700 if user == "root" else 0)

    def story() -> None:
        take(home.settings)
        assert drill(home.settings, DrillRequest()).proof.proven
        (home.data / "open.txt").write_text("now")
        (home.data / "link nowhere").unlink()
        in_place(home.settings, supply_of(home.settings))
        restore_into(supply_of(home.settings), folder / "look", new_id())

    try:
        if user == "root":
            story()
        else:
            with as_nobody():
                story()
        for root in (home.data, folder / "look" / "data"):
            assert {root / path.relative_to(home.data) for path in there} == {
                path
                for path in root.rglob("*")
                if os.path.islink(path) and ".scriptorium-" not in str(path)  # noqa: PTH114
            }
        assert (home.data / "open.txt").read_text() == "open.txt, at the backup"
    finally:
        forbidden.chmod(0o700)


def test_space_is_reckoned_from_what_a_sparse_file_takes(folder: Path) -> None:
    """A file that consists almost only of a hole, saved and restored."""
    home = library(folder)
    os.truncate(home.data / "open.txt", 1 << 28)
    (home.data / "sub" / "again").hardlink_to(home.data / "open.txt")
    survey = home.settings.library().sources[0].survey(())
    assert survey.bytes - survey.holes < 1 << 20 < survey.bytes < 2 << 28
    take(home.settings)
    supply = supply_of(home.settings)
    (part,) = supply.manifest.parts
    assert part.bytes > 1 << 28 and part.allocated < 1 << 20
    restore_into(supply, folder / "look", new_id())
    assert (folder / "look" / "data" / "open.txt").stat().st_blocks * 512 < 1 << 20
    assert all(
        size < 1 << 20 for _, size in staged_sizes(supply, {"data": home.settings.library().sources[0]}, new_id())
    )
