"""Tars as other programs write them: ends that are shorter or longer than ours, holes in four forms, names with
dots and double slashes, links to links, labels, lists of folders."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scriptorium.archive.reader import Reader
from scriptorium.errors import DamageFound, UnsafeArchive
from scriptorium.operations.adopt import tar
from scriptorium.operations.adopt import zip as zip_archive
from scriptorium.operations.restore import restore
from scriptorium.requests import RestoreRequest
from tests.shared.adoption import adopt

BLOCK = 512


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    for path, content in {"data/covers/a.jpg": b"cover", "data/uploads/x": b"upload", ".env": b"A=1"}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    with (folder / "data/uploads/holes").open("wb") as file:
        for at, content in ((0, b"begin"), (300_000, b"middle"), (900_000, b"end")):
            file.seek(at)
            file.write(content)
        file.truncate(1_200_000)
    with (folder / "data/uploads/only a hole").open("wb") as file:
        file.truncate(100_000)
    with (folder / "data/uploads/many").open("wb") as file:
        for at in range(0, 4_000_000, 100_000):  # more than fits into a header
            file.seek(at)
            file.write(b"%d" % at)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Files, and of symlinks their targets."""
    return {
        str(path.relative_to(folder)): os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def made(tree: Path, command: str) -> Path:
    """The archive that a shell command writes to ``$A``."""
    archive = tree.with_name("old.tar")
    subprocess.run(["bash", "-ec", command], cwd=tree, env={**os.environ, "A": str(archive)}, check=True)
    return archive


def unpacked(archive: Path) -> dict[str, bytes]:
    inventory, folder = tar.read_inventory(archive), archive.with_name("out")
    folder.mkdir()
    tar.unpack(archive, folder, inventory)
    return contents(folder)


COMMANDS = {
    "GNU": "tar -cf $A .env data",
    "of the folder itself": "tar -cf $A .",
    "POSIX": "tar --format=pax -cf $A .env data",
    "old": "tar --format=v7 -cf $A .env data",
    "holes, in headers": "tar -S --format=gnu -cf $A .env data",
    "holes, of 1999": "tar -S --format=oldgnu -cf $A .env data",
    "holes, in records": "tar -S --format=pax --sparse-version=0.0 -cf $A .env data",
    "holes, in one record": "tar -S --format=pax --sparse-version=0.1 -cf $A .env data",
    "holes, before the data": "tar -S --format=pax --sparse-version=1.0 -cf $A .env data",
    "small records": "tar -b 1 -cf $A .env data",
    "large records": "tar -b 64 -cf $A .env data",
    "a label": "tar -V label -cf $A .env data",
    "with lists of folders": "tar -g ../list -cf $A .env data",
    "double slashes": "tar -cf $A .env data//covers data/./uploads",
    "a further name": "ln data/uploads/x data/uploads/y; tar -cf $A .",
    "a further name of a link": "ln -s x data/uploads/l; ln data/uploads/l data/uploads/m; tar -cf $A .",
    "added to": "tar -cf $A .env data; echo new > data/uploads/x; tar -rf $A data/uploads/x",
    "a file before its folder": "tar -cf $A --no-recursion data/uploads/* data/covers/* .env data/uploads data",
    "from a tape": "tar -czf $A .env data; head -c 5000 /dev/zero >> $A",
    "of another system": "bsdtar --format=pax -cf $A .env data",
}


@pytest.mark.parametrize("how", COMMANDS)
def test_what_was_packed_comes(tree: Path, how: str) -> None:
    if COMMANDS[how].startswith("bsdtar") and shutil.which("bsdtar") is None:
        pytest.skip("no bsdtar here")
    archive = made(tree, COMMANDS[how])
    assert unpacked(archive) == contents(tree)


@pytest.mark.parametrize("packed", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("zeros", [BLOCK, 2 * BLOCK, 3 * BLOCK, 700])
def test_an_end_that_fills_no_record(tree: Path, zeros: int, packed: Callable[[bytes], bytes]) -> None:
    """Go and BSD write two blocks, some programs one."""
    archive = made(tree, "tar -b 1 -cf $A .env data")
    archive.write_bytes(packed(archive.read_bytes()[: -2 * BLOCK] + bytes(zeros)))
    assert unpacked(archive) == contents(tree)


def test_without_an_end_it_may_have_been_cut_short(tree: Path) -> None:
    archive = made(tree, "tar -b 1 -cf $A .env data")
    archive.write_bytes(archive.read_bytes()[: -2 * BLOCK])
    with pytest.raises(DamageFound, match="ends early"):
        tar.read_inventory(archive)
    archive.write_bytes(archive.read_bytes() + bytes(2 * BLOCK) + archive.read_bytes())
    with pytest.raises(DamageFound, match="something follows"):
        tar.read_inventory(archive)


def test_our_own_archives_must_end_as_we_end_them(tree: Path) -> None:
    archive = made(tree, "tar -b 1 -cf $A .env data")
    with pytest.raises(DamageFound, match="ends early"), archive.open("rb") as stream, Reader(stream) as reader:
        list(reader)


NEW = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "10"}
BROKEN = {
    "overlapping": ({"GNU.sparse.size": "10", "GNU.sparse.map": "0,2,1,1"}, b"abc"),
    "below zero": ({"GNU.sparse.size": "10", "GNU.sparse.map": "0,-3"}, b"abc"),
    "half a pair": ({"GNU.sparse.size": "10", "GNU.sparse.map": "0,3,5"}, b"abc"),
    "no number": ({"GNU.sparse.size": "10", "GNU.sparse.map": "x,3"}, b"abc"),
    "beyond the end": ({"GNU.sparse.size": "10", "GNU.sparse.map": "9,3"}, b"abc"),
    "less than is stored": ({"GNU.sparse.size": "10", "GNU.sparse.map": "0,2"}, b"abc"),
    "more than is stored": ({"GNU.sparse.size": "10", "GNU.sparse.map": "0,4"}, b"abc"),
    "of no size": ({"GNU.sparse.map": "0,3"}, b"abc"),
    "before the data: no number": (NEW, b"x\n" * 256),
    "before the data: no line": (NEW, b"1" * 600),
    "before the data: it never ends": (NEW, b"900000\n" + b"0\n" * 255),
    "before the data: too long": (NEW, b"9" * 20 + b"\n" + bytes(491)),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_map_that_cannot_be_is_damage(tmp_path: Path, case: str) -> None:
    records, data = BROKEN[case]
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as opened:
        member = tarfile.TarInfo("data/covers/a.jpg")
        member.size, member.pax_headers = len(data), records
        opened.addfile(member, io.BytesIO(data))
    with pytest.raises(DamageFound):
        tar.read_inventory(archive)


def test_holes_and_an_end_of_another_program_are_adopted(app: Any, tree: Path) -> None:
    archive = made(tree, "tar -S --format=pax -b 1 -cf $A .env data")
    adopted = adopt(app.place.settings, archive)
    target = tree.with_name("restored")
    restore(app.place.settings, RestoreRequest(reference=adopted.backup.id, path=target))
    assert contents(target) == contents(tree)


def zip_with_link(target: Path, to: str) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("data/covers/a.jpg", b"cover")
        link = zipfile.ZipInfo("data/covers/b.jpg")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, to)
    return target


@pytest.mark.parametrize(("to", "warned"), [("a.jpg", False), ("../../../etc/passwd", True), ("/etc/passwd", True)])
def test_a_link_in_a_zip(tmp_path: Path, to: str, warned: bool) -> None:
    archive = zip_with_link(tmp_path / "a.zip", to)
    inventory, folder = zip_archive.read_inventory(archive), tmp_path / "out"
    folder.mkdir()
    lines = zip_archive.unpack(archive, folder, inventory)
    assert ("a link out of the archive" in "".join(lines)) == warned
    assert contents(folder) == {
        "data/covers/a.jpg": b"cover",
        **({} if warned else {"data/covers/b.jpg": to.encode()}),
    }


def test_nothing_is_written_through_a_link_of_a_zip(tmp_path: Path) -> None:
    archive = zip_with_link(tmp_path / "a.zip", ".")
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr("data/covers/b.jpg/x", b"through")
    with pytest.raises(UnsafeArchive, match="no folder"):
        zip_archive.read_inventory(archive)
