"""A bucket of a real server, behind a relay that imitates the troubles of a network."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from s3_relay import Relay
from s3_server import S3Server, s3_server
from store_fixtures import LARGE, s3_place

from scriptorium.stores.objects.s3.objects import S3Objects
from scriptorium.stores.objects.s3.place import S3Place


@pytest.fixture
def server() -> S3Server:
    return s3_server()


@pytest.fixture
def relay(server: S3Server) -> Iterator[Relay]:
    relay = Relay(server.url)
    yield relay
    relay.stop()


@pytest.fixture
def made(server: S3Server, relay: Relay) -> Callable[..., S3Objects]:
    """A store behind the relay, with parts of 5 MiB, which S3 asks for at least."""
    settings = s3_place(server, relay.url) | {"part_size": 5}
    return lambda **more: S3Objects(S3Place(**(settings | more)), "bucket")


@pytest.fixture
def large(tmp_path: Path) -> Path:
    file = tmp_path / "large.tar"
    file.write_bytes(os.urandom(LARGE))
    return file
