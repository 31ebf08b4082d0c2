"""Unpacked files are read back from the disk; a list of any length takes no memory for that."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from scriptorium.archive.reader import Reader
from scriptorium.errors import UnsafeArchive
from scriptorium.manifest import entry_line
from scriptorium.members import listed_entries, reread
from scriptorium.model import FileEntry, FileList, Finding

DATA = b"a book"
SHA256 = hashlib.sha256(DATA).hexdigest()
MANY = 8_000


def entry(path: str, kind: str = "file", sha256: str | None = SHA256, target: str | None = None) -> FileEntry:
    return FileEntry(path, kind, len(DATA), 0o644, 0, sha256 if kind in ("file", "hardlink") else None, target)


LIST = (
    entry("a", "folder"),
    entry("a/book"),
    entry("a/caf\udce9"),
    entry("a/again", "hardlink", target="a/book"),
    entry("a/link", "symlink", target="./b//caf\udce9"),
    entry("elsewhere"),
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "book").write_bytes(DATA)
    (tmp_path / "a" / "again").hardlink_to(tmp_path / "a" / "book")
    (tmp_path / "a" / "caf\udce9").write_bytes(DATA)
    os.symlink("./b//caf\udce9", tmp_path / "a" / "link")  # noqa: PTH211 -- Path would tidy it up
    return tmp_path


def found(place: Path) -> tuple[Finding, ...]:
    return reread(LIST, lambda path: None if path == "elsewhere" else place / path, roots=[place]).findings


def test_all_is_there(place: Path) -> None:
    same = reread(LIST, lambda path: None if path == "elsewhere" else place / path, roots=[place])
    assert (same.files, same.bytes, same.findings) == (3, 3 * len(DATA), ())


def test_whatever_is_not_as_it_was_written_is_named(place: Path) -> None:
    (place / "a" / "book").write_bytes(bytes(len(DATA)))
    (place / "a" / "caf\udce9").unlink()
    (place / "a" / "link").unlink()
    (place / "a" / "link").symlink_to("b/caf")
    assert [(one.verdict, one.subject) for one in found(place)] == [
        ("different content", "a/book"),
        ("missing file", r"a/caf\xe9"),
        ("different content", "a/again"),
        ("different link", "a/link"),
    ]


@pytest.mark.parametrize("instead", ["folder", "symlink"])
def test_a_link_in_its_place_is_not_followed(place: Path, instead: str) -> None:
    (place / "a" / "caf\udce9").unlink()
    if instead == "folder":
        (place / "a" / "caf\udce9").mkdir()
    else:
        (place / "a" / "caf\udce9").symlink_to("book")
    assert [str(one) for one in found(place)] == [r"not a file: a/caf\xe9"]


def test_nothing_outside_is_read(place: Path) -> None:
    with pytest.raises(UnsafeArchive):
        reread([entry("x")], lambda _: place.parent / "x", roots=[place])


def entries() -> Iterator[FileEntry]:
    return (entry(f"a/{number:050}") for number in range(MANY))


def test_memory_is_flat_however_many_files_there_are(place: Path) -> None:
    tracemalloc.start()
    try:
        assert reread(entries(), lambda _: place / "a" / "book", roots=[place]).files == MANY
        assert tracemalloc.get_traced_memory()[1] < MANY * 60
    finally:
        tracemalloc.stop()


def test_a_long_list_is_read_from_the_archive_line_by_line(tmp_path: Path) -> None:
    # several times what is read ahead
    data = b"".join(entry_line(entry(f"{number}/{'x' * 8000}")) for number in range(MANY))
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        member = tarfile.TarInfo("files.jsonl")
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    files = FileList(MANY, hashlib.sha256(data).hexdigest(), None, "files.jsonl")
    again, length = hashlib.sha256(), len(data)
    del data
    tracemalloc.start()
    try:
        for one in listed_entries(lambda: Reader((tmp_path / "x.tar").open("rb")), files):
            again.update(entry_line(one))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert again.hexdigest() == files.sha256 and peak < length / 2
