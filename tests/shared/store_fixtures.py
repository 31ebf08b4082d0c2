"""Stores to run the suite of tests/contracts/test_object_stores.py on, and what its tests share.

The next store's row goes into ``STORES``: a function that makes an empty store in a folder, with what only it
knows: how it is made full and how it stops answering.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from s3_relay import Answer, Relay, Request, error
from s3_server import S3Server, s3_server

from scriptorium.stores.objects.base import ObjectStore
from scriptorium.stores.objects.local import LocalObjects
from scriptorium.stores.objects.memory import MemoryObjects
from scriptorium.stores.objects.s3.objects import S3Objects
from scriptorium.stores.objects.s3.place import MEBIBYTE, S3Place

LARGE = 11 * MEBIBYTE + 123  # three parts of 5 MiB
KEY = "bibliotheca/full_20260102_030405.tar.gz"


@dataclass(frozen=True)
class StoreUnderTest:
    """A store under test. ``fill`` leaves it less than 1 MB of space, ``break_down`` makes it stop answering."""

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


def s3_place(server: S3Server, url: str = "") -> dict[str, Any]:
    """The settings of an empty place in a bucket of the server."""
    return {
        "bucket": server.bucket("contracts"),
        "prefix": secrets.token_hex(8),
        "endpoint_url": url or server.url,
        "credentials_file": server.credentials,
        "attempts": 2,
        "timeout": 20,
    }


def s3(folder: Path) -> StoreUnderTest:
    server = s3_server()
    relay = Relay(server.url)
    place = S3Place(**s3_place(server, relay.url))

    @contextlib.contextmanager
    def full() -> Iterator[ObjectStore]:
        """The answer of MinIO when it is full; a bucket of AWS is never full."""
        taken = [0]

        def counted(request: Request) -> Answer | None:
            if request.method != "PUT":
                return None
            taken[0] += len(request.body)
            return error(507, "XMinioStorageFull", "disk full") if taken[0] > 600_000 else None

        relay.trouble = counted
        yield S3Objects(place, "small")

    return StoreUnderTest(S3Objects(place, "here"), full, relay.stop)


STORES = {"local": local, "memory": memory, "s3": s3}


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


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def same(store: ObjectStore, key: str, file: Path) -> bool:
    with store.open(key) as stream:
        return hashlib.sha256(stream.read()).hexdigest() == sha256(file)
