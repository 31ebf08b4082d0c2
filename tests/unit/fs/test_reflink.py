"""Copies of open files: sizes, holes, early ends; a real reflink where a filesystem with them can be mounted."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scriptorium.errors import NoSpace
from scriptorium.fs import reflink


def copy(source: Path, target: Path, size: int | None = None) -> str:
    with reflink.opened(source) as handle:
        return reflink.copy(handle, target, source.stat().st_size if size is None else size, lambda done: None)


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, reflink.PIECE - 1, reflink.PIECE, 2 * reflink.PIECE + 1])
def test_every_size(tmp_path: Path, size: int) -> None:
    (tmp_path / "a").write_bytes(os.urandom(size))
    copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o600


def test_holes_stay_holes(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.write(b"x" * 5000)
        file.seek(200 << 20)
        file.write(b"y" * 5000)
        file.truncate(300 << 20)
    copy(tmp_path / "a", tmp_path / "b")
    found = (tmp_path / "b").stat()
    assert found.st_size == 300 << 20
    assert found.st_blocks * 512 < 1 << 20
    with (tmp_path / "b").open("rb") as file:
        assert file.read(5000) == b"x" * 5000
        file.seek(200 << 20)
        assert file.read(6000) == b"y" * 5000 + b"\0" * 1000


def test_a_prefix_of_a_growing_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    copy(tmp_path / "a", tmp_path / "b", 4)
    assert (tmp_path / "b").read_bytes() == b"0123"


def test_a_file_that_became_shorter_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123")
    with pytest.raises(reflink.CameShort):
        copy(tmp_path / "a", tmp_path / "b", 10)


def test_a_copy_is_given_up_between_pieces(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(1) + os.urandom(3 * reflink.PIECE))
    seen: list[int] = []

    def check(done: int) -> None:
        seen.append(done)
        if len(seen) == 2:
            raise InterruptedError

    with reflink.opened(tmp_path / "a") as handle, pytest.raises(InterruptedError):
        reflink.copy(handle, tmp_path / "b", 3 * reflink.PIECE, check)
    assert seen == [reflink.PIECE, 2 * reflink.PIECE]


@pytest.mark.parametrize("error", ["EXDEV", "EOPNOTSUPP", "ENOSYS"])
def test_without_help_of_the_kernel_it_reads_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    import errno

    def refuse(*_: object) -> int:
        raise OSError(getattr(errno, error), error)

    monkeypatch.setattr(os, "copy_file_range", refuse)
    (tmp_path / "a").write_bytes(os.urandom(5 << 20))
    assert copy(tmp_path / "a", tmp_path / "b") == "copy"
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()


def test_across_filesystems(tmp_path: Path) -> None:
    here = tmp_path.stat().st_dev
    places = (Path("/dev/shm"), Path("/tmp"), Path(__file__).parent)
    others = [place for place in places if os.access(place, os.W_OK) and place.stat().st_dev != here]
    if not others:
        pytest.skip("there is no second filesystem that can be written")
    target = others[0] / f"scriptorium-test-{os.getpid()}"
    try:
        (tmp_path / "a").write_bytes(os.urandom(3 << 20))
        assert copy(tmp_path / "a", target) == "copy"
        assert target.read_bytes() == (tmp_path / "a").read_bytes()
    finally:
        target.unlink(missing_ok=True)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A small filesystem with reflinks."""
    image, folder = tmp_path / "image", tmp_path / "mounted"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    for tool, size in ((["mkfs.xfs", "-q", "-m", "reflink=1"], 320 << 20), (["mkfs.btrfs", "-q"], 128 << 20)):
        if not shutil.which(tool[0]):
            continue
        with image.open("wb") as file:
            file.truncate(size)
        made = subprocess.run([*tool, str(image)], capture_output=True, check=False)
        if made.returncode or subprocess.run(["mount", "-o", "loop", image, folder], capture_output=True).returncode:
            continue
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", folder], check=True)
        return
    pytest.skip("no filesystem with reflinks can be made and mounted here (mkfs.xfs or mkfs.btrfs)")


def test_a_real_reflink(mounted: Path) -> None:
    (mounted / "a").write_bytes(os.urandom(4 << 20))
    before = os.statvfs(mounted).f_bfree
    assert copy(mounted / "a", mounted / "b") == "reflink"
    assert (mounted / "b").read_bytes() == (mounted / "a").read_bytes()
    assert copy(mounted / "a", mounted / "prefix", 5000) == "reflink"
    assert (mounted / "prefix").read_bytes() == (mounted / "a").read_bytes()[:5000]
    assert (before - os.statvfs(mounted).f_bfree) * 4096 < 4 << 20, "the blocks are shared"


def test_a_full_filesystem_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], capture_output=True).returncode
    ):
        pytest.skip("mounting is not allowed here")
    try:
        (tmp_path / "a").write_bytes(os.urandom(3 << 20))
        with pytest.raises(NoSpace) as full:
            copy(tmp_path / "a", folder / "b")
        assert str(folder) in full.value.on and str(3 << 20) in full.value.what
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
