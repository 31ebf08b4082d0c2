"""A known hash is used only while nothing of the file has changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scriptorium.members.known import KnownHashes

SHA = "ab" * 32


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("contents")
    return path


@pytest.fixture(autouse=True)
def _later(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    monkeypatch.setattr("time.time_ns", lambda: file.stat().st_ctime_ns + 3_000_000_000)


def written(folder: Path, path: str, status: os.stat_result) -> Path:
    known = KnownHashes()
    known.add(path, status, SHA)
    known.write(folder / "hashes")
    return folder / "hashes"


def test_a_hash_is_valid_while_the_file_is_unchanged(tmp_path: Path, file: Path) -> None:
    name = os.fsdecode(b"a/\xff")
    known = KnownHashes.read(written(tmp_path, name, file.stat()))
    assert known.of(name, file.stat()) == SHA and known.of("other", file.stat()) is None


def test_any_change_ends_it(tmp_path: Path, file: Path) -> None:
    known = KnownHashes.read(written(tmp_path, "f", file.stat()))
    os.utime(file, ns=(0, file.stat().st_mtime_ns))  # the ctime alone
    assert known.of("f", file.stat()) is None
    before = file.stat()
    known = KnownHashes.read(written(tmp_path, "f", before))
    other = tmp_path / "other"
    other.write_text("Contents")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(file)
    assert known.of("f", file.stat()) is None


def test_what_changed_recently_is_not_remembered(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time_ns", lambda: file.stat().st_ctime_ns + 1_000_000_000)
    assert KnownHashes.read(written(tmp_path, "f", file.stat())).of("f", file.stat()) is None


@pytest.mark.parametrize(
    "spoil",
    [lambda data: data[:-1], lambda data: b"x" + data[1:], lambda data: data[:40] + b"y" + data[41:], lambda _: b""],
)
def test_a_damaged_file_is_nothing(tmp_path: Path, file: Path, spoil: object) -> None:
    hashes = written(tmp_path, "f", file.stat())
    hashes.write_bytes(spoil(hashes.read_bytes()))  # type: ignore[operator]
    assert KnownHashes.read(hashes).of("f", file.stat()) is None
    assert KnownHashes.read(tmp_path / "missing").of("f", file.stat()) is None
