"""Reading archives: of other programs, with an early end, with data after the end, and damaged ones."""

from __future__ import annotations

import gzip
import io
import os
import random
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scriptorium.archive import extract_member, members, unpack
from scriptorium.archive.written import EndsEarly
from scriptorium.errors import DamageFound, NotFound
from scriptorium.model import Tree
from scriptorium.words import Compression


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "sub").mkdir(parents=True)
    (folder / "text").write_bytes(b"many words, " * 20_000)
    (folder / "sub" / "noise").write_bytes(random.Random(5).randbytes(200_000))
    (folder / "sub" / ("long" * 50)).write_text("x")
    (folder / "link").symlink_to("text")
    (folder / "zeros").write_bytes(bytes(3_000_000))
    return folder


def read_all(data: bytes) -> list[str]:
    return [member.entry.path for member in members(io.BytesIO(data)) if member.contents() is not None]


@pytest.mark.parametrize(
    "form", ["gnu", "pax", "ustar", "v7"], ids=["GNU, long names in their own blocks", "pax", "ustar", "v7"]
)
@pytest.mark.parametrize("pipe", ["cat", "gzip", "pigz", "zstd -q"])
def test_archives_of_other_programs(root: Path, tmp_path: Path, form: str, pipe: str) -> None:
    if form in ("ustar", "v7"):  # they have no space for such a name
        (root / "sub" / ("long" * 50)).unlink()
    command = f"tar -c --format={form} -C {root} . | {pipe} > {tmp_path}/other"
    subprocess.run(["sh", "-c", command], check=True, stderr=subprocess.DEVNULL)
    with (tmp_path / "other").open("rb") as stream:
        unpack(stream, lambda path: tmp_path / "back" / path if path else None, roots=[tmp_path / "back"])
    subprocess.run(["diff", "-r", str(root), str(tmp_path / "back")], check=True)


def test_gzip_members_that_were_joined_are_one_stream(root: Path, tmp_path: Path, archives: Any) -> None:
    packed = archives.pack(Tree(str(root), "x"), compression=Compression.NONE)
    data = packed.path.read_bytes()
    joined = gzip.compress(data[:70_000]) + gzip.compress(data[70_000:])
    assert read_all(joined) == read_all(data)


@pytest.mark.parametrize("compression", list(Compression))
def test_one_member(archives: Any, root: Path, compression: Compression) -> None:
    packed = archives.pack(Tree(str(root), "x"), compression=compression)
    with packed.path.open("rb") as stream:
        assert extract_member(stream, "x/text") == (root / "text").read_bytes()
    with packed.path.open("rb") as stream, pytest.raises(NotFound):
        extract_member(stream, "x/other")


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "one byte short": lambda data: data[:-1],
    "four bytes short": lambda data: data[:-4],
    "nine bytes short": lambda data: data[:-9],
    "half": lambda data: data[: len(data) // 2],
    "a hundred bytes": lambda data: data[:100],
    "a letter follows": lambda data: data + b"x",
    "zeros follow": lambda data: data + bytes(20_000),
    "itself follows": lambda data: data + data,
    "another stream follows": lambda data: data + gzip.compress(b"more"),
    "the last byte differs": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "not an archive": lambda data: b"<html>404</html>" * 100,
    "the start is missing": lambda data: data[1:],
    "a block is missing": lambda data: data[:50_000] + data[51_024:],
    "a block is zeros": lambda data: data[:50_000] + bytes(1024) + data[51_024:],
}


@pytest.mark.parametrize("compression", list(Compression))
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_is_found_while_reading(
    archives: Any, root: Path, tmp_path: Path, compression: Compression, damage: Callable[[bytes], bytes]
) -> None:
    packed = archives.pack(Tree(str(root), "x"), compression=compression)
    broken = damage(packed.path.read_bytes())
    into = tmp_path / "back"
    with pytest.raises(DamageFound):
        unpack(io.BytesIO(broken), lambda path: into / path, roots=[into], expected=packed.manifest.files)


@pytest.mark.parametrize("compression", list(Compression))
def test_an_archive_cut_anywhere_ends_early(archives: Any, root: Path, compression: Compression) -> None:
    data = archives.pack(Tree(str(root), "x"), compression=compression).path.read_bytes()
    cuts = {*range(len(data) - 12, len(data)), *random.Random(9).sample(range(1, len(data)), 40)}
    for cut in cuts:
        with pytest.raises(DamageFound):
            read_all(data[:cut])
    with pytest.raises(EndsEarly):
        read_all(data[: len(data) // 2])


def test_the_error_names_the_place(archives: Any, root: Path) -> None:
    data = archives.pack(Tree(str(root), "x"), compression=Compression.NONE).path.read_bytes()
    start = data.index(b"x/text")
    broken = data[:start] + b"y" + data[start + 1 :]
    with pytest.raises(DamageFound, match=r"at byte \d+ of the tar stream, after 'x/sub"):
        read_all(broken)


def test_headers_made_to_confuse(tmp_path: Path) -> None:
    def header(**fields: object) -> bytes:
        member = tarfile.TarInfo("a")
        for name, value in fields.items():
            setattr(member, name, value)
        return member.tobuf(tarfile.PAX_FORMAT)

    huge = tarfile.TarInfo("././@PaxHeader")
    huge.type, huge.size = tarfile.XHDTYPE, 1 << 33
    for data in (
        huge.tobuf(tarfile.GNU_FORMAT) + bytes(2048),
        header(pax_headers={"size": "-5"}) + bytes(2048),
        header(pax_headers={"mtime": "yesterday"}) + bytes(2048),
        header(pax_headers={"x": "y"}).replace(b"6 x=y\n", b"9 x=y\n") + bytes(2048),
        header(pax_headers={"x": "y"}).replace(b"6 x=y\n", b"x x=y\n") + bytes(2048),
        header(size=1 << 40) + bytes(2048),
        header() + bytes(512),
    ):
        with pytest.raises(DamageFound):
            read_all(data)


def test_a_small_archive_of_a_huge_file_does_not_fill_the_memory(archives: Any, tmp_path: Path) -> None:
    import psutil

    (tmp_path / "zeros").touch()
    os.truncate(tmp_path / "zeros", 1 << 28)
    packed = archives.pack(Tree(str(tmp_path / "zeros"), "zeros"), compression=Compression.ZSTD)
    before = psutil.Process().memory_info().rss
    largest = 0
    with packed.path.open("rb") as stream:
        for member in members(stream):
            for _ in member.chunks():
                largest = max(largest, psutil.Process().memory_info().rss)
    assert packed.path.stat().st_size < 1 << 20
    assert largest - before < 100 << 20


def test_a_stopped_reader_leaves_no_thread(archives: Any, root: Path) -> None:
    import threading

    packed = archives.pack(Tree(str(root), "x"))
    before = threading.active_count()
    with packed.path.open("rb") as stream:
        assert extract_member(stream, "backup_metadata.json")
    assert threading.active_count() == before
