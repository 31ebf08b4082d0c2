"""One piece of work in a process of its own: ``python -m benchmarks.work NAME ARGUMENT…``, measured by ``meter``."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from scriptorium.model import FileList, Manifest, Staged, Tree
from scriptorium.words import BackupType, Compression, Tier


def tarfile_gzip(root: str, output: str) -> None:
    """What applications do today: Python's ``tarfile`` with gzip as it comes."""
    import tarfile

    with tarfile.open(output, "w:gz") as archive:
        archive.add(root, arcname=".")
    with open(output, "rb") as file:  # noqa: PTH123 -- as short as the rest
        os.fsync(file.fileno())


def pack(root: str, output: str, compression: str) -> None:
    """Our archive of the same bytes, with its manifest beside it."""
    from scriptorium.archive import pack
    from scriptorium.manifest import dumps

    target = Path(output)
    now = datetime.now(UTC)
    spool = target.with_name(f"{target.name}.spool")
    shutil.rmtree(spool, ignore_errors=True)
    spool.mkdir()
    part = Staged("files", "files", "files", "read", now, now, (Tree(root=root, at="files"),))
    manifest = pack(target, _draft(now), [part], Compression(compression), spool=spool)
    target.with_name(f"{target.name}.json").write_bytes(dumps(manifest))
    if manifest.warnings:
        raise SystemExit(f"warnings: {manifest.warnings}")


def _draft(now: datetime) -> Manifest:
    return Manifest(
        id="0123456789ab",
        library="bench",
        preset=None,
        type=BackupType.FULL,
        tier=Tier.MANUAL,
        name="bench",
        description="",
        created_at=now,
        finished_at=now,
        host="bench",
        scriptorium_version="0",
        tools={},
        parts=(),
        files=FileList(count=0, sha256="", entries=()),
        archive=None,
    )


def verify(output: str) -> None:
    """Read our archive back and compare every hash."""
    from scriptorium.archive.verification import verify_copy

    target = Path(output)
    manifest = target.with_name(f"{target.name}.json").read_bytes()
    findings = verify_copy(lambda: target.open("rb"), manifest, name=target.name, size=target.stat().st_size)
    if findings:
        raise SystemExit(f"damage: {findings}")


def kuzu_build(path: str, megabytes: str, seed: str) -> None:
    from scriptorium.demo import build_size

    build_size(Path(path), float(megabytes), int(seed))


def kuzu_capture(path: str, stage: str) -> None:
    """The whole snapshot: the hot copy, opened, every table counted and fingerprinted, exported as Parquet."""
    from scriptorium.sources.kuzu.source import KuzuSource

    folder = Path(stage)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    source = KuzuSource(path=Path(path))
    source.capture(folder)
    source.examine(folder, ())


def kuzu_read(path: str, export: str = "") -> None:
    """Open a copy in a child, count and fingerprint every table; make and try its export where a folder is given."""
    from scriptorium.sources.kuzu import export as kuzu_export
    from scriptorium.sources.kuzu import memory, reader

    found = reader.read(Path(path), engine=None)
    if export:
        shutil.rmtree(export, ignore_errors=True)
        kuzu_export.make(Path(path), Path(export), found, engine=None, share=memory.SHARE)


def create(settings_file: str) -> None:
    """Everything that ``scriptorium create`` does, called directly: no flow, no tasks, no server."""
    from scriptorium.operations.backup import backup
    from scriptorium.requests import BackupRequest
    from scriptorium.settings import load

    backup(load(Path(settings_file)), BackupRequest())


def restore(settings_file: str, target: str) -> None:
    """Restore the newest backup into a folder, with the comparison of every hash."""
    from scriptorium.operations.restore import restore
    from scriptorium.requests import RestoreRequest
    from scriptorium.settings import load

    restore(load(Path(settings_file)), RestoreRequest(reference="latest", path=Path(target)))


def create_again(settings_file: str, times: str) -> None:
    """The same a second time in one process; what the second time took is written to the file ``times``."""
    create(settings_file)
    _timed(lambda: create(settings_file), times)


def flow_again(settings_file: str, times: str) -> None:
    """Two flow runs in one process, of which the second counts: Prefect is loaded, and its server is up."""
    from scriptorium.cli.run_flow import flow_runs
    from scriptorium.settings import choose_file

    choose_file(Path(settings_file))
    with flow_runs():
        from flows.backup import backup

        backup()
        _timed(backup, times)


def _timed(action: Callable[[], object], times: str) -> None:
    time.sleep(max(0.0, 1.0 - time.time() % 1))  # two backups of one second would differ in name: not measured
    wall, cpu = time.monotonic(), os.times()
    action()
    spent = sum(after - before for after, before in zip(os.times()[:4], cpu[:4], strict=True))
    Path(times).write_text(json.dumps({"wall": time.monotonic() - wall, "cpu": spent}))


WORK: Mapping[str, Callable[..., None]] = {
    "tarfile": tarfile_gzip,
    "pack": pack,
    "verify": verify,
    "kuzu-build": kuzu_build,
    "kuzu-capture": kuzu_capture,
    "kuzu-read": kuzu_read,
    "create": create,
    "restore": restore,
    "create-again": create_again,
    "flow-again": flow_again,
}


def work(name: str, *arguments: object) -> list[str]:
    """The command that does one piece of work."""
    return [sys.executable, "-m", "benchmarks.work", name, *map(str, arguments)]


if __name__ == "__main__":
    WORK[sys.argv[1]](*sys.argv[2:])
