"""A bucket beside rclone, on one server in the same run: ``python -m benchmarks.bucket``.

One archive of noise is sent and read again, in parts of 16 MiB, four at once. "scriptorium" hashes each part and the
whole, and the server checks each part by SHA-256; rclone sends the MD5 of each part. The server is that of the tests.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from random import Random

from benchmarks import machine
from benchmarks.contest import ROOT, Contestant, groups, hold

sys.path.insert(0, str(ROOT / "tests" / "shared"))

UPLOAD, DOWNLOAD = "upload", "download"
_TARGET = 0.9  # of the throughput of rclone. Downloads have none: rclone has several streams, we have one
_KEY = "lib/full_20260102_030405.tar.gz"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("work", nargs="*", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        _work(*asked.work)
        return 0
    from s3_server import s3_server

    server = s3_server()
    with tempfile.TemporaryDirectory(prefix="scriptorium-bucket-") as folder:
        file, back = Path(folder) / "file", Path(folder) / "back"
        chance = Random(1)
        with file.open("wb") as target:
            for _ in range(asked.megabytes):
                target.write(chance.randbytes(1 << 20))
        bucket = server.bucket("bench")
        place = [server.url, bucket, str(server.credentials)]

        def ours(what: str, path: Path) -> Contestant:
            words = [sys.executable, "-m", "benchmarks.bucket", what, str(path), *place]
            return Contestant(f"scriptorium {what}", what, words, None, size, os.environ)

        def bare(what: str, *words: str) -> Contestant:
            argv = ["rclone", "-q", "copyto", "--s3-chunk-size=16M", "--s3-upload-concurrency=4", *words]
            return Contestant(f"rclone {what}", what, argv, None, size, _rclone(server.url, server.credentials))

        size, remote = file.stat().st_size, f"bench:{bucket}/rclone"
        contestants = [
            bare(UPLOAD, str(file), remote),
            ours(UPLOAD, file),
            bare(DOWNLOAD, remote, str(back)),
            ours(DOWNLOAD, back),
        ]
        failures: list[str] = []
        rows = hold(contestants, asked.rounds, lambda line: print(line, file=sys.stderr, flush=True), failures)
        print(machine.busy() or "the machine was quiet", *failures, sep="\n")
        for what, found in groups(rows):
            for row in found:
                print(f"{row.name:22} {row.throughput:6.0f} MiB/s {row.cpu:5.2f} s CPU {row.peak >> 20:5d} MiB")
            if len(found) == 2:
                share = found[1].throughput / found[0].throughput
                target = f", the target is at least {_TARGET}x" if what == UPLOAD else ""
                print(f"{what}: {share:.2f}x of rclone{target}")
    return 1 if failures else 0


def _rclone(url: str, credentials: Path) -> Mapping[str, str]:
    return {
        **os.environ,
        "RCLONE_CONFIG": "/dev/null",
        "RCLONE_CONFIG_BENCH_TYPE": "s3",
        "RCLONE_CONFIG_BENCH_PROVIDER": "SeaweedFS",
        "RCLONE_CONFIG_BENCH_ENDPOINT": url,
        "RCLONE_CONFIG_BENCH_ENV_AUTH": "true",
        "RCLONE_S3_NO_CHECK_BUCKET": "true",
        "AWS_SHARED_CREDENTIALS_FILE": str(credentials),
        "RCLONE_IGNORE_TIMES": "true",
    }


def _work(what: str, path: str, url: str, bucket: str, credentials: str) -> None:
    """What is measured of ours, in a process of its own."""
    from scriptorium.stores.objects.s3 import S3Store

    objects = S3Store(bucket=bucket, endpoint_url=url, credentials_file=Path(credentials)).objects
    if what == UPLOAD:
        objects.put(_KEY, Path(path))
        return
    digest = hashlib.sha256()
    with objects.open(_KEY) as source, Path(path).open("wb") as target:
        while chunk := source.read(1 << 20):
            digest.update(chunk)
            target.write(chunk)


if __name__ == "__main__":
    sys.exit(main())
