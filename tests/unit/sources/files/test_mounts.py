"""A tree of files with other filesystems in it: what is mounted is never switched nor removed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import file_trees
import pytest
from file_trees import (
    ARCHIVE,
    LIVING,
    RESTORE,
    RESTORED,
    bring,
    build,
    incoming_of,
    part,
    seen,
    source_of,
    state_of,
)

from scriptorium.errors import RestoreFailed
from scriptorium.fs.mounts import mounted_in

home = file_trees.home  # a fixture, for these tests alone


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
    elif kind == "bind":  # of the same filesystem: the device number is equal
        build(tmp_path / "elsewhere", {"precious": b"p"})
        mount(point := home / "sub" / "disk and more", "--bind", str(tmp_path / "elsewhere"))
    else:
        (tmp_path / "precious").write_bytes(b"p")
        mount(point := home / "sub" / "conf", "--bind", str(tmp_path / "precious"))
    assert list(mounted_in(home)) == [point] and list(mounted_in(home / "a")) == []
    before = state_of(home)
    incoming = incoming_of(source_of(home))
    bring(incoming, {"a": b"restored", "sub": {"b": b"2"}})
    with pytest.raises(RestoreFailed) as caught:
        incoming.switch()
    assert str(point) in str(caught.value) and "unmount" in caught.value.hint
    incoming.undo()
    assert state_of(home) == before
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
