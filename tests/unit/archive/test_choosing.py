"""Few members of a large archive need few of its bytes."""

from __future__ import annotations

import io
import random
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scriptorium.archive.choosing import chosen_members
from scriptorium.archive.index import IndexMaker, runs
from scriptorium.errors import DamageFound
from scriptorium.manifest import dumps, loads
from scriptorium.model import Manifest, Tree
from scriptorium.words import Compression

TAR = {Compression.GZIP: "-xzf", Compression.ZSTD: "--zstd -xf", Compression.NONE: "-xf"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    noise = random.Random(5)
    for number in range(4):
        (folder / f"{number}-large").write_bytes(noise.randbytes(2_500_000))
        (folder / f"{number}-small").write_bytes(noise.randbytes(100_000))
        (folder / f"{number}-text").write_bytes(b"many words, " * 100_000)
    (folder / "9-name").hardlink_to(folder / "1-small")
    return folder


class Archive:
    """An archive in memory that counts what is read of it."""

    def __init__(self, packed: Any) -> None:
        self.data: bytes = packed.path.read_bytes()
        self.manifest: Manifest = loads(dumps(packed.manifest))
        self.asked = 0

    def open_range(self, start: int, end: int) -> io.BytesIO:
        self.asked += end - start
        return io.BytesIO(self.data[start:end])

    def read(self, wanted: Callable[[str], bool]) -> dict[str, bytes] | None:
        with chosen_members(self.open_range, self.manifest, wanted, advance=None) as found:
            return None if found is None else {one.entry.path: one.contents() for one in found}


@pytest.mark.parametrize("compression", list(Compression))
@pytest.mark.parametrize("apart", [False, True], ids=["listed in the manifest", "listed in the archive"])
def test_few_members_need_few_bytes(
    root: Path, tmp_path: Path, archives: Any, compression: Compression, apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scriptorium.members.ledger.INLINE", 3 if apart else 100)
    archive = Archive(archives.pack(Tree(str(root), "x"), compression=compression))
    for names in (["0-small"], ["3-text"], ["0-large", "3-small"], ["1-small", "9-name"], []):
        archive.asked = 0
        found = archive.read(lambda path, names=names: path.removeprefix("x/") in names)  # type: ignore[misc]
        assert found is not None
        assert (found.pop("files.jsonl", None) is not None) == apart
        contents = {name: b"" if name == "9-name" else (root / name).read_bytes() for name in names}
        assert found == {f"x/{name}": data for name, data in contents.items()}
        assert archive.asked < 4_000_000 * len(names) + 100_000
    assert archive.read(lambda _: True) is None, "what wants most of it reads it whole"
    back = tmp_path / "back"
    back.mkdir()
    (tmp_path / "archive").write_bytes(archive.data)
    subprocess.run(["tar", *TAR[compression].split(), tmp_path / "archive", "-C", back], check=True)
    subprocess.run(["diff", "-r", root, back / "x"], check=True)


@pytest.mark.parametrize("compression", list(Compression))
def test_damage_is_named_if_it_is_in_what_is_read(root: Path, archives: Any, compression: Compression) -> None:
    archive = Archive(archives.pack(Tree(str(root), "x"), compression=compression))
    whole, record = archive.data, archive.manifest.archive
    assert record is not None
    (run,) = runs(record, [1])
    archive.data = whole[: run.start.at] + bytes(400) + whole[run.start.at + 400 :]
    with pytest.raises(DamageFound, match=r"near byte|broken"):
        archive.read(lambda path: path == "x/0-large")
    assert archive.read(lambda path: path == "x/3-small") == {"x/3-small": (root / "3-small").read_bytes()}
    archive.data = whole[: run.start.at + 1000]
    for path in ("x/0-large", "x/3-small"):
        with pytest.raises(DamageFound, match=r"ends (early|inside)"):
            archive.read(lambda name, path=path: name == path)  # type: ignore[misc]


def test_a_list_in_the_archive_is_compared_with_the_manifest(
    root: Path, archives: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scriptorium.members.ledger.INLINE", 3)
    archive = Archive(archives.pack(Tree(str(root), "x")))
    archive.manifest = replace(archive.manifest, files=replace(archive.manifest.files, sha256="0" * 64))
    with pytest.raises(DamageFound, match="list of files"):
        archive.read(lambda _: True)


def test_an_archive_without_an_index_is_read_whole(root: Path, archives: Any) -> None:
    archive = Archive(archives.pack(Tree(str(root), "x")))
    assert archive.manifest.archive is not None
    for change in ({"index": ()}, {"encryption": "age age1"}):
        old = replace(archive.manifest, archive=replace(archive.manifest.archive, **change))  # type: ignore[arg-type]
        with chosen_members(archive.open_range, old, lambda _: True, advance=None) as found:
            assert found is None


def test_the_index_of_a_very_large_archive_keeps_some_places() -> None:
    maker = IndexMaker()
    for number in range(20_000):
        assert maker.wants(number * (4 << 20), 1)
        maker.mark(number * (4 << 20))
        maker.members += 10
    index = maker.made(range(20_000))
    assert 6_000 < len(index) < 8_200 and index[0].at == 0 and [one.at for one in index[-2:]] == [19_998, 19_999]
    assert list(index) == sorted(index, key=lambda one: one.at)
