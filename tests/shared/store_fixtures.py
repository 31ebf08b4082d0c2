"""Stores to run the suite of tests/contracts/test_object_stores.py on, and what its tests share.

The next store's row goes into ``STORES``: a function that makes an empty store in a folder, with what only it
knows: how it is made full and how it stops answering.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from scriptorium.stores.objects.base import ObjectStore
from scriptorium.stores.objects.local import LocalObjects
from scriptorium.stores.objects.memory import MemoryObjects

KEY = "bibliotheca/full_20260102_030405.tar.gz"


@dataclass(frozen=True)
class StoreUnderTest:
    """A store under test. ``fill`` leaves it less than 1 MB of space, ``break_down`` makes it answer no more."""

    store: ObjectStore
    fill: Callable[[], contextlib.AbstractContextManager[ObjectStore]]
    break_down: Callable[[], None]


def local(folder: Path) -> StoreUnderTest:
    store = LocalObjects(name="here", path=folder / "store")

    @contextlib.contextmanager
    def full() -> Iterator[ObjectStore]:
        with small_disk(folder / "disk") as disk:
            yield LocalObjects(name="small", path=disk / "store")

    def break_down() -> None:  # the folder has become a file: what root cannot read either
        shutil.rmtree(store.path, ignore_errors=True)
        store.path.write_text("not a folder")

    return StoreUnderTest(store, full, break_down)


def memory(folder: Path) -> StoreUnderTest:
    store = MemoryObjects(name="here")
    return StoreUnderTest(
        store, lambda: contextlib.nullcontext(MemoryObjects(name="small", capacity=600_000)), store.break_down
    )


STORES = {"local": local, "memory": memory}


@contextlib.contextmanager
def small_disk(at: Path) -> Iterator[Path]:
    """A real filesystem of 1 MB."""
    at.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(at)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("a small filesystem can only be mounted by root, where mounting is allowed")
    try:
        yield at
    finally:
        subprocess.run(["umount", str(at)], check=True)


def names(store: ObjectStore, prefix: str = "") -> list[str]:
    return [info.key for info in store.list(prefix)]
