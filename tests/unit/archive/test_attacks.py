"""Archives made to write outside their target: each trick has its test, and changes nothing outside."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scriptorium.archive import unpack
from scriptorium.errors import RestoreFailed, UnsafeArchive
from scriptorium.members import Unpacked

Recipe = list[tuple[str, bytes, str]]  # name, type, contents or link target


def made(recipe: Recipe) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, what in recipe:
            member = tarfile.TarInfo(name)
            member.type = kind
            member.uid = member.gid = os.getuid()
            member.mode = 0o755
            if kind == tarfile.REGTYPE:
                member.size = len(what)
                archive.addfile(member, io.BytesIO(what.encode()))
            else:
                member.linkname = what
                archive.addfile(member)
    buffer.seek(0)
    return buffer


FILE, LINK, HARD, FOLDER = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_text("secret")
    (folder / "secret").chmod(0o600)
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


def state(folder: Path) -> list[tuple[str, int, int, str]]:
    return [
        (path.name, path.stat().st_mode, path.stat().st_nlink, path.read_text() if path.is_file() else "")
        for path in sorted(folder.rglob("*"))
    ] + [(".", folder.stat().st_mode, folder.stat().st_nlink, str(folder.stat().st_mtime_ns))]


def extract(recipe: Recipe, target: Path, receive: Callable[[str], Path | None] | None = None) -> Unpacked:
    return unpack(made(recipe), receive or (lambda path: target / path), roots=[target])


ATTACKS: dict[str, Callable[[Path], Recipe]] = {
    "absolute path": lambda out: [(f"{out}/new", FILE, "x")],
    "two slashes": lambda out: [(f"/{out}/new", FILE, "x")],
    "dots in front": lambda out: [("../outside/new", FILE, "x")],
    "dots inside": lambda out: [("a", FOLDER, ""), ("a/../../outside/new", FILE, "x")],
    "dots at the end": lambda out: [("a/..", FOLDER, "")],
    "dots alone": lambda out: [("..", FOLDER, "")],
    "dots behind a dot": lambda out: [("./../outside/new", FILE, "x")],
    "nothing as a name": lambda out: [("./", FILE, "x")],
    "through a symlink to a folder": lambda out: [("a", LINK, str(out)), ("a/new", FILE, "x")],
    "through a relative symlink": lambda out: [("a", LINK, "../outside"), ("a/new", FILE, "x")],
    "through two symlinks": lambda out: [("a", LINK, ".."), ("b", LINK, "a/outside"), ("b/new", FILE, "x")],
    "a folder where a symlink is": lambda out: [("a", LINK, str(out)), ("a", FOLDER, ""), ("a/new", FILE, "x")],
    "a symlink through a symlink": lambda out: [("a", LINK, str(out)), ("a/new", LINK, "x")],
    "a hard link to the outside": lambda out: [("a", HARD, f"{out}/secret")],
    "a hard link with dots": lambda out: [("a", HARD, "../outside/secret")],
    "a hard link through a symlink": lambda out: [("a", LINK, str(out)), ("b", HARD, "a/secret")],
    "a hard link to a symlink": lambda out: [("a", LINK, f"{out}/secret"), ("b", HARD, "a")],
    "a hard link to what became a symlink": lambda out: [
        ("a", FILE, "x"),
        ("a", LINK, f"{out}/secret"),
        ("b", HARD, "a"),
    ],
    "a hard link to a folder": lambda out: [("a", FOLDER, ""), ("b", HARD, "a")],
    "a hard link to nothing": lambda out: [("a", HARD, "b")],
    "a character device": lambda out: [("null", tarfile.CHRTYPE, "")],
    "a block device": lambda out: [("disk", tarfile.BLKTYPE, "")],
    "a pipe": lambda out: [("pipe", tarfile.FIFOTYPE, "")],
    "an unknown type": lambda out: [("odd", b"Z", "")],
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_attacks_are_refused(attack: Callable[[Path], Recipe], outside: Path, target: Path) -> None:
    before = state(outside)
    with pytest.raises(UnsafeArchive) as caught:
        extract(attack(outside), target)
    assert caught.value.exit_code == 3
    assert state(outside) == before


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "a/.."])
def test_a_wrong_name_is_refused_whatever_is_made_of_it(target: Path, name: str) -> None:
    with pytest.raises(UnsafeArchive, match="outside its target"):
        extract([(name, FILE, "x")], target, lambda path: target / "harmless")
    assert not target.exists()


def test_devices_are_refused_by_name(target: Path) -> None:
    with pytest.raises(UnsafeArchive, match="is a device, which no backup holds: null"):
        extract([("null", tarfile.CHRTYPE, "")], target)


def test_a_file_replaces_a_symlink_and_never_follows_it(outside: Path, target: Path) -> None:
    before = state(outside)
    extract([("a", LINK, f"{outside}/secret"), ("a", FILE, "mine")], target)
    assert (target / "a").read_text() == "mine" and not (target / "a").is_symlink()
    assert state(outside) == before


def test_a_symlink_that_was_there_already_is_not_followed(outside: Path, target: Path) -> None:
    target.mkdir()
    (target / "a").symlink_to(outside / "secret")
    (target / "d").symlink_to(outside)
    before = state(outside)
    extract([("a", FILE, "mine")], target)
    assert (target / "a").read_text() == "mine"
    with pytest.raises(UnsafeArchive):
        extract([("d/new", FILE, "x")], target)
    assert state(outside) == before


def test_a_file_never_writes_through_a_hard_link(outside: Path, target: Path) -> None:
    target.mkdir()
    os.link(outside / "secret", target / "a")
    extract([("a", FILE, "mine")], target)
    assert (outside / "secret").read_text() == "secret"


def test_symlinks_are_made_as_they_are(outside: Path, target: Path) -> None:
    extract([("a", LINK, str(outside)), ("b", LINK, "../../x"), ("a", LINK, "second")], target)
    assert os.readlink(target / "a") == "second"  # noqa: PTH115
    assert os.readlink(target / "b") == "../../x"  # noqa: PTH115


def test_a_destination_outside_the_roots_is_refused(outside: Path, target: Path) -> None:
    for destination in (outside / "new", target / ".." / "outside" / "new", Path("relative"), Path(f"{target}x/new")):
        with pytest.raises(UnsafeArchive):
            extract([("a", FILE, "x")], target, lambda path, there=destination: there)  # type: ignore[misc]
    assert not (outside / "new").exists()


def test_several_roots(tmp_path: Path) -> None:
    roots = [tmp_path / "one", tmp_path / "two"]
    recipe = [("a/x", FILE, "1"), ("b/y", FILE, "2"), ("c", FILE, "3"), ("a/again", HARD, "b/y")]
    places = {"a/x": roots[0] / "x", "b/y": roots[1] / "deep" / "y", "c": None, "a/again": roots[1] / "again"}
    done = unpack(made(recipe), lambda path: places[path], roots=roots)
    assert done == Unpacked(3, 0, 2)
    assert (tmp_path / "two/deep/y").samefile(tmp_path / "two/again")
    assert (tmp_path / "one/x").read_text() == "1"


def test_a_member_may_be_the_root_itself(target: Path) -> None:
    recipe = [("data", FOLDER, ""), ("data/x", FILE, "1")]
    extract(recipe, target, lambda path: target / path.removeprefix("data").lstrip("/"))
    assert (target / "x").read_text() == "1"
    assert target.stat().st_mode & 0o777 == 0o755
    with pytest.raises(UnsafeArchive):
        extract([("data", FILE, "x")], target, lambda path: target)


def test_a_hard_link_whose_file_is_not_wanted_is_reported(target: Path) -> None:
    recipe = [("a", FILE, "x"), ("b", HARD, "a")]
    done = extract(recipe, target, lambda path: target / path if path == "b" else None)
    (unset,) = done.unset
    assert str(unset) == "b: it could not be made (a hard link to a file that is not restored)"


def test_a_folder_in_the_way_is_no_reason_to_delete_it(target: Path) -> None:
    (target / "a").mkdir(parents=True)
    (target / "a" / "mine").write_text("x")
    with pytest.raises(RestoreFailed):
        extract([("a", FILE, "x")], target)
    assert (target / "a" / "mine").read_text() == "x"


def test_devices_that_nobody_wants_do_no_harm(target: Path) -> None:
    done = extract(
        [("null", tarfile.CHRTYPE, ""), ("a", FILE, "x")], target, lambda p: target / p if p == "a" else None
    )
    assert done.files == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_set_uid_bits_are_for_root_alone(tmp_path: Path, as_nobody: Any) -> None:
    recipe_stream = made([("a", FILE, "x")])
    data = bytearray(recipe_stream.getvalue())
    header = tarfile.TarInfo.frombuf(bytes(data[:512]), "utf-8", "strict")
    header.mode = 0o6755
    archive = header.tobuf() + bytes(data[512:])
    unpack(io.BytesIO(archive), lambda path: tmp_path / "root" / path, roots=[tmp_path / "root"])
    assert (tmp_path / "root/a").stat().st_mode & 0o7777 == 0o6755
    other = tmp_path / "other"
    other.mkdir()
    os.chown(other, 65534, 65534)
    with as_nobody():
        unpack(io.BytesIO(archive), lambda path: other / path, roots=[other])
    assert (other / "a").stat().st_mode & 0o7777 == 0o755
