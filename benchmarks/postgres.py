"""PostgreSQL, side by side with its own tools: ``python -m benchmarks.postgres``.

About 1 GB of book-like rows in a server of its own (fsync on, as users have it). Every contestant writes to the same
disk. "scriptorium" is the whole backup: snapshot, dump, fingerprints, archive with its hashes; and the whole restore:
unpacking with every hash, load, comparison, switch.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import machine
from benchmarks.contest import ROOT, Contestant, Row, groups, hold
from scriptorium import process
from scriptorium.sources import PostgresSource
from scriptorium.sources.postgres.embedded import EmbeddedPostgres, major_version, server_folders

_RESULTS = Path(__file__).with_name("results") / "postgres.json"
DUMP, PLAIN, PARALLEL = "pg_dump -Fc", "pg_dump -Fc -Z0", "pg_dump -Fd -j2 -Z0"
OURS = "scriptorium, {}"
BARE = "scriptorium, {}, no fingerprints"
STREAMED = "scriptorium, {}, streamed"
RESTORE, RESTORE_CUSTOM = "pg_restore -j1 of plain files", "pg_restore -j1 of -Fc"
BACK_STREAMED = "scriptorium: unpack, join, load, compare, switch (streamed)"
BACK, LOADED = "scriptorium: unpack, load, compare, switch", "scriptorium: load, compare, switch"
_BACKUP, _RESTORE = "backup", "restore"
_ADDRESS = "BENCH_DATABASE"
_PIECE = [sys.executable, "-m", "benchmarks.postgres", "--piece"]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.postgres", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--programs", type=Path, help="folder of the server's programs")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--output", type=Path, default=_RESULTS)
    parser.add_argument("--piece", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.piece:
        _PIECES[options.piece[0]](*options.piece[1:])
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the working folder is removed
    programs = options.programs or server_folders()[-1]
    with process.no_child_outlives(), tempfile.TemporaryDirectory(dir=options.folder, prefix="bench-") as folder:
        place = Path(folder)
        place.chmod(0o755)  # the server's user goes through it
        lasting = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "max_wal_size": "2GB"}
        with EmbeddedPostgres(programs, folder=place / "server", options=lasting) as server:
            address = server.address("library")
            _sql(server.address(), "CREATE DATABASE library")
            _report(f"filling a database with about {options.megabytes} MiB …")
            build = [sys.executable, "-m", "benchmarks.postgres_data", str(options.megabytes)]
            process.run(build, env={_ADDRESS: address}, cwd=ROOT)
            failures: list[str] = []
            rows = _measure(server, address, place, options.rounds, failures)
    about = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "megabytes": options.megabytes,
        "rounds": options.rounds,
        "server": f"PostgreSQL {major_version(programs)}",
        "cores": os.cpu_count(),
        "machine": machine.description(options.folder),
        "failures": failures,
    }
    figures = _figures(rows)
    options.output.parent.mkdir(exist_ok=True, parents=True)
    document = {**about, "figures": figures, "rows": [asdict(row) for row in rows]}
    options.output.write_text(json.dumps(document, indent=1, default=str) + "\n")
    page = _page(rows, figures, about)
    options.output.with_suffix(".md").write_text(page)
    print(page)
    return 1 if failures else 0


def _measure(server: EmbeddedPostgres, address: str, place: Path, rounds: int, failures: list[str]) -> list[Row]:
    contestants = _Contestants(server, address, place)
    contestants.work.mkdir()
    rows = hold(contestants.backups(), rounds, _report, failures)
    contestants.dump_plain_files()
    return rows + hold(contestants.restores(), rounds, _report, failures)


@dataclass(frozen=True)
class _Contestants:
    """Who is measured, on one server, in the folder ``place``."""

    server: EmbeddedPostgres
    address: str
    place: Path

    @property
    def work(self) -> Path:
        return self.place / "work"

    @property
    def _custom(self) -> Path:
        """The dump that pg_restore is measured with, and that the backups leave."""
        return self.place / "custom"

    @property
    def _folder(self) -> Path:
        return self.place / "folder"

    @property
    def _plain(self) -> str:
        """The address without the password."""
        return self.address.replace(f":{self.server.password}", "")

    @property
    def _env(self) -> dict[str, str]:
        programs = str(self.server.programs)
        return {_ADDRESS: self.address, "PGPASSWORD": self.server.password, "BENCH_PROGRAMS": programs}

    def backups(self) -> list[Contestant]:
        variants = ((OURS, "fingerprints"), (BARE, "bare"), (STREAMED, "streamed"))
        return [
            self._dump(DUMP, "-Fc", output=self._custom, stays=True),
            self._dump(PLAIN, "-Fc", "-Z0", output=self.place / "plain"),
            self._dump(PARALLEL, "-Fd", "-j2", "-Z0", output=self.place / "parallel"),
            *(
                self._backup(name.format(kind), kind, variant)
                for name, variant in variants
                for kind in ("gzip", "zstd")
            ),
        ]

    def restores(self) -> list[Contestant]:
        return [
            self._into_new(RESTORE, self._folder),
            self._into_new(RESTORE_CUSTOM, self._custom),
            self._back(LOADED, "load"),
            self._back(BACK, "restore"),
            self._back(BACK_STREAMED, "restore", "streamed"),
        ]

    def dump_plain_files(self) -> None:
        """Make the files that the first of the restores reads."""
        process.run(self._pg_dump("-Fd", "-Z0", output=self._folder), env=self._env)

    def _pg_dump(self, *arguments: str, output: Path) -> list[str]:
        return [str(self.server.programs / "pg_dump"), *arguments, f"--file={output}", self._plain]

    def _dump(self, name: str, *arguments: str, output: Path, stays: bool = False) -> Contestant:
        after = None if stays else lambda: _clear(output)
        return Contestant(name, _BACKUP, self._pg_dump(*arguments, output=output), output, env=self._env, after=after)

    def _backup(self, name: str, compression: str, variant: str) -> Contestant:
        output = self.work / f"{compression}-{variant}.tar"
        return Contestant(name, _BACKUP, [*_PIECE, "backup", str(output), compression, variant], output, env=self._env)

    def _into_new(self, name: str, source: Path) -> Contestant:
        server = self.server
        target = self._plain.replace("/library", "/scratch")
        script = f"createdb -h 127.0.0.1 -p {server.port} -U {server.user} -T template0 scratch && "
        restore = str(server.programs / "pg_restore")
        command = ["sh", "-c", f"{server.programs}/{script} exec {restore} -d {target} -j1 {source}"]
        return Contestant(name, _RESTORE, command, env=self._env, after=lambda: _drop(server, "scratch"))

    def _back(self, name: str, what: str, variant: str = "fingerprints") -> Contestant:
        archive = self.work / f"zstd-{variant}.tar"
        timed = archive.with_name(f"{archive.name}.timed") if what == "load" else None
        command = [*_PIECE, what, str(archive)]
        return Contestant(name, _RESTORE, command, env=self._env, timed=timed, after=lambda: _drop(self.server, "back"))


def _clear(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _sql(address: str, statement: str) -> None:
    import psycopg

    with psycopg.connect(address, autocommit=True) as session:
        session.execute(statement)


def _drop(server: EmbeddedPostgres, name: str) -> None:
    _sql(server.address(), f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    _sql(server.address(), "CHECKPOINT")  # so that no contestant waits for the writes of another one


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _figures(rows: Sequence[Row]) -> list[dict[str, object]]:
    found = {row.name: row for row in rows}

    def figure(what: str, value: float, most: float | None = None, unit: str = "x") -> dict[str, object]:
        met = None if most is None else value <= most
        return {"what": what, "value": round(value, 3), "unit": unit, "most": most, "met": met}

    whole = found[DUMP].wall
    peak = max(row.peak for row in rows if row.name.startswith("scriptorium")) / (1 << 20)
    return [
        *(figure(f"backup with {kind}, archive and hashes, fingerprints apart, over pg_dump -Fc",
                 found[BARE.format(kind)].wall / whole, 0.35) for kind in ("gzip", "zstd")),
        *(figure(f"… with the fingerprints, {kind}", found[OURS.format(kind)].wall / whole)
          for kind in ("gzip", "zstd")),
        *(figure(f"what the fingerprints add, {kind}", found[OURS.format(kind)].wall - found[BARE.format(kind)].wall,
                 unit=" s") for kind in ("gzip", "zstd")),
        *(figure(f"streamed, without a copy in the workspace, {kind}, over pg_dump -Fc",
                 found[STREAMED.format(kind)].wall / whole) for kind in ("gzip", "zstd")),
        figure("restore with comparison over pg_restore -j1 alone", found[LOADED].wall / found[RESTORE].wall, 1.2),
        figure("… with unpacking and hashing the archive", found[BACK].wall / found[RESTORE].wall),
        figure("peak memory", peak, 300, " MiB"),
    ]  # fmt: skip


def _page(rows: Sequence[Row], figures: Sequence[Mapping[str, object]], about: Mapping[str, object]) -> str:
    lines = ["# PostgreSQL, measured", ""]
    lines += [f"- {key}: {value}" for key, value in about.items()]
    lines += ["", "| figure | value | target | |", "|---|---:|---|---|"]
    for one in figures:
        verdict = {None: "", True: "met", False: "MISSED"}[one["met"]]  # type: ignore[index]
        most = "" if one["most"] is None else f"at most {one['most']}{one['unit']}"
        lines.append(f"| {one['what']} | {one['value']}{one['unit']} | {most} | {verdict} |")
    for title, members in groups(rows):
        lines += ["", f"## {title}", "", "| | wall s | min–max | CPU s (client) | peak MiB | output MiB |"]
        lines.append("|---|---:|---:|---:|---:|---:|")
        for row in members:
            walls = [sample.wall for sample in row.samples]
            lines.append(
                f"| {row.name} | {row.wall:.2f} | {min(walls):.2f}–{max(walls):.2f} | {row.cpu:.2f} "
                f"| {row.peak / (1 << 20):.0f} | {row.size / (1 << 20):.0f} |"
            )
    return "\n".join(lines) + "\n"


# --- the pieces, each in a process of its own ---------------------------------------------------------------------


def backup(output: str, compression: str, variant: str) -> None:
    """Snapshot and archive; ``bare``: without the fingerprints, to see what they cost; ``streamed``: at once."""
    from benchmarks.work import _draft
    from scriptorium.archive import pack
    from scriptorium.manifest import dumps
    from scriptorium.sources.postgres import fingerprint
    from scriptorium.sources.postgres.dump import snapshot
    from scriptorium.words import Compression

    if variant == "bare":
        snapshot.take_fingerprints = lambda *_, **__: fingerprint.Fingerprints({})
    source = _source()
    target = Path(output)
    stage = target.with_name(f"{target.name}.stage")
    for folder in (stage, target.with_name("spool")):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    target.unlink(missing_ok=True)
    draft, packing, spool = _draft(datetime.now(UTC)), Compression(compression), target.with_name("spool")
    if variant == "streamed":
        with source.stream(stage) as stream:
            manifest = pack(target, draft, [], packing, spool=spool, streams=[stream])
    else:
        source.capture(stage)
        manifest = pack(target, draft, [source.examine(stage, ())], packing, spool=spool)
    target.with_name(f"{target.name}.json").write_bytes(dumps(manifest))
    shutil.rmtree(stage)


def _source() -> PostgresSource:
    """The database of this benchmark."""
    programs = Path(os.environ["BENCH_PROGRAMS"])
    return PostgresSource(database=os.environ[_ADDRESS], tools=programs, staging=Path(tempfile.gettempdir()))


def restore(archive: str) -> None:
    """Back from the archive into a database of another name."""
    _back(Path(archive), timed=None)


def load(archive: str) -> None:
    """The same, with the archive already unpacked: only what follows is measured."""
    _back(Path(archive), timed=Path(f"{archive}.timed"))


def _back(archive: Path, *, timed: Path | None) -> None:
    from scriptorium.archive import unpack
    from scriptorium.manifest import loads

    manifest = loads(archive.with_name(f"{archive.name}.json").read_bytes())
    part = manifest.parts[0]
    incoming = _source().model_copy(update={"target": "back"}).incoming(part, "0123456789ab")
    incoming.prepare()
    root = incoming.receive(part.path)
    assert root is not None
    with archive.open("rb") as stream:
        unpack(stream, incoming.receive, roots=(root,), expected=manifest.files)
    began = time.monotonic()
    if incoming.load() != part.tables:
        raise SystemExit("the restored data differs from the saved data")
    incoming.switch()
    incoming.finish()
    if timed is not None:
        timed.write_text(json.dumps({"wall": time.monotonic() - began}))


_PIECES = {"backup": backup, "restore": restore, "load": load}

if __name__ == "__main__":
    sys.exit(main())
