"""Living sources to run the suite of tests/contracts/test_sources.py on, and what its tests share.

The next source's row goes into ``RIGS``: a function that makes a living source in a folder, with what only it
knows: how a row is changed, how its application writes, how its contents are seen without us, how a copy is damaged.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import kuzu_writer
import pytest
from postgres_server import postgres_server

from scriptorium.model import Part, Staged
from scriptorium.quiesce.pause import snapshot
from scriptorium.sources import FilesSource, KuzuSource, PostgresSource, Source
from scriptorium.sources.postgres.embedded import EmbeddedPostgres, server_folders

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RESTORE = "0123456789ab"


@dataclass(frozen=True)
class Rig:
    """A living source.

    ``change``    change the contents (each call anew)
    ``contents``  what it holds, in any form that can be compared, found without the source's own code
    ``writing``   an application of its own that writes all the time
    ``damage``    spoil what was unpacked (the folder of a restore's members)
    ``hold``      a process that has it open; yields its number
    ``remove``    the living data are gone
    ``folder``    where the living data are, for looking for leavings; ``None`` where they are no files
    ``take``      how a snapshot comes into a folder
    """

    source: Source
    change: Callable[[], None]
    contents: Callable[[], object]
    writing: Callable[[], AbstractContextManager[None]]
    damage: Callable[[Path], None]
    hold: Callable[[], AbstractContextManager[int]]
    remove: Callable[[], None]
    folder: Path | None
    take: Callable[[Path], Staged] | None = None

    def staged(self, stage: Path) -> Staged:
        return self.take(stage) if self.take is not None else snapshot(self.source, stage, ())


def _graph(template: Path) -> Path:
    """The same small database for every test; it is made once."""
    if not template.exists():
        kuzu_writer.script(
            None,
            template,
            "CREATE NODE TABLE Book(id INT64, title STRING, PRIMARY KEY(id))",
            "CREATE REL TABLE NEXT(FROM Book TO Book)",
            "UNWIND range(1, 500) AS i CREATE (:Book {id: i, title: 'Title ' + CAST(i AS STRING)})",
            "MATCH (a:Book), (b:Book) WHERE a.id + 1 = b.id CREATE (a)-[:NEXT]->(b)",
        )
    return template


def kuzu(folder: Path) -> Rig:
    live = folder / "live"
    live.mkdir()
    database = live / "graph.db"
    shutil.copy(_graph(folder.parent / "graph.template"), database)
    count = iter(range(1_000, 100_000))

    def change() -> None:
        kuzu_writer.script(None, database, f"CREATE (:Book {{id: {next(count)}, title: 'new'}})")

    def contents() -> object:
        code = (
            "import kuzu, sys; c = kuzu.Connection(kuzu.Database(sys.argv[1], read_only=True))\n"
            "print(c.execute('MATCH (b:Book) RETURN b.id, b.title ORDER BY b.id').get_all())\n"
            "print(c.execute('MATCH (a)-[:NEXT]->(b) RETURN a.id, b.id ORDER BY a.id, b.id').get_all())\n"
        )
        return subprocess.run([sys.executable, "-c", code, database], capture_output=True, check=True).stdout

    @contextlib.contextmanager
    def running(statement: str) -> Iterator[int]:
        code = (
            "import kuzu, sys, time, itertools; c = kuzu.Connection(kuzu.Database(sys.argv[1]))\n"
            "print(flush=True)\n"
            "for i in itertools.count(10_000):\n"
            f"    {statement}\n"
            "    time.sleep(0.01)\n"
        )
        process = subprocess.Popen([sys.executable, "-c", code, database], stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None and process.stdout.readline() == b"\n"
            yield process.pid
        finally:
            process.kill()
            process.communicate()

    @contextlib.contextmanager
    def writing() -> Iterator[None]:
        with running("c.execute(f\"CREATE (:Book {{id: {i}, title: 'w'}})\"); i % 20 or c.execute('CHECKPOINT')"):
            yield

    def damage(unpacked: Path) -> None:
        for path in unpacked.rglob("graph.db"):
            path.write_bytes(path.read_bytes()[:4096] + os.urandom(path.stat().st_size - 4096))

    return Rig(
        KuzuSource(path=database, name="graph"),
        change,
        contents,
        writing,
        damage,
        lambda: running("pass"),
        database.unlink,
        live,
    )


def files(folder: Path) -> Rig:
    live = folder / "live"
    (live / "covers" / "empty").mkdir(parents=True)
    for number in range(20):
        (live / "covers" / f"{number}.jpg").write_bytes(os.urandom(1_000 + number))
    (live / "link").symlink_to("covers/1.jpg")
    count = iter(range(100_000))

    def change() -> None:
        number = next(count)
        (live / "covers" / f"new{number}").write_text("new")
        (live / "covers" / f"{number}.jpg").unlink()

    def contents() -> object:
        return sorted(
            (path.relative_to(live).as_posix(), path.is_symlink() or (path.is_file() and path.read_bytes()))
            for path in live.rglob("*")
        )

    @contextlib.contextmanager
    def writing() -> Iterator[None]:
        code = (
            "import pathlib, sys, itertools, time\n"
            "for i in itertools.count():\n"
            "    (pathlib.Path(sys.argv[1]) / f'log{i % 10}').write_text(str(i)); time.sleep(0.01)\n"
        )
        process = subprocess.Popen([sys.executable, "-c", code, live])
        try:
            time.sleep(0.1)
            yield
        finally:
            process.kill()
            process.wait()

    @contextlib.contextmanager
    def hold() -> Iterator[int]:
        opened = live / "covers" / "19.jpg"
        process = subprocess.Popen(["tail", "-c", "+1", "-f", opened], stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None and process.stdout.read(1)
            yield process.pid
        finally:
            process.kill()
            process.communicate()

    return Rig(
        FilesSource(path=live, name="data"),
        change,
        contents,
        writing,
        lambda unpacked: None,
        hold,
        lambda: shutil.rmtree(live),
        live,
    )


def postgres(folder: Path) -> Rig:
    import psycopg

    server = _server()
    name = f"library_{os.urandom(4).hex()}"

    def ask(query: str, database: str = name) -> list[tuple[Any, ...]]:
        with psycopg.connect(server.address(database), autocommit=True) as session:
            cursor = session.execute(query)
            return cursor.fetchall() if cursor.description else []

    ask(f"CREATE DATABASE {name}", "postgres")
    ask(
        "CREATE TABLE books (id serial PRIMARY KEY, title text, tags text[], more jsonb);"
        "INSERT INTO books (title, tags, more) SELECT 'Title ' || g, ARRAY['a', NULL], '{\"b\": 1}' "
        "FROM generate_series(1, 500) g"
    )

    def contents() -> object:
        return ask("SELECT * FROM books ORDER BY id"), ask("SELECT last_value FROM books_id_seq")

    @contextlib.contextmanager
    def writing() -> Iterator[None]:
        over = threading.Event()

        def write() -> None:
            with psycopg.connect(server.address(name), autocommit=True) as session:
                while not over.wait(0.005):
                    session.execute("INSERT INTO books (title) VALUES ('w')")
                    session.execute("UPDATE books SET title = title || '.' WHERE id = (random() * 499)::int + 1")

        writer = threading.Thread(target=write)
        writer.start()
        try:
            yield
        finally:
            over.set()
            writer.join()

    def damage(unpacked: Path) -> None:
        for path in [*unpacked.rglob("*.dat"), *unpacked.rglob("dump.0*")]:
            path.write_bytes(path.read_bytes().replace(b"\tTitle 7", b"\tTitle 8"))

    @contextlib.contextmanager
    def hold() -> Iterator[int]:
        with psycopg.connect(server.address(name)) as session:
            yield session.info.backend_pid

    staging = folder / "staging"
    staging.mkdir()
    return Rig(
        PostgresSource(database=server.address(name), name="db", staging=staging, tools=server.programs),
        lambda: ask("INSERT INTO books (title) VALUES ('new')") and None,
        contents,
        writing,
        damage,
        hold,
        lambda: ask(f"DROP DATABASE {name} WITH (FORCE)", "postgres") and None,
        None,
    )


class _SmallPieces(PostgresSource):
    piece: ClassVar[int] = 4096


def streamed(folder: Path) -> Rig:
    """The same, as it is archived when the workspace has no space: in pieces, small ones here."""
    rig = postgres(folder)
    source = _SmallPieces.model_validate({**rig.source.model_dump(), "dump": "stream"})

    def take(stage: Path) -> Staged:
        with source.stream(stage) as stream:
            for name, data in stream.pieces():
                (stage / "part" / Path(stream.folder).name / name).write_bytes(data)
            return stream.staged()

    return replace(rig, source=source, take=take)


@functools.cache
def _server() -> EmbeddedPostgres:
    if not server_folders():
        pytest.skip("no PostgreSQL server here: apt-get install postgresql, or pip install 'scriptorium[embedded]'")
    return postgres_server().start()


def stop_server() -> None:
    """Stop the server of the rigs, if one was started."""
    if _server.cache_info().currsize:
        _server().stop()
        _server.cache_clear()


RIGS = {"kuzu": kuzu, "postgres": postgres, "postgres, streamed": streamed, "files": files}


def part_of(staged: Staged) -> Part:
    return Part(
        source=staged.source,
        kind=staged.kind,
        path=staged.path,
        bytes=0,
        files=0,
        started_at=NOW,
        finished_at=NOW,
        method=staged.method,
        engine_version=staged.engine_version,
        tables=staged.tables,
        export=staged.export,
        provenance=staged.provenance,
    )


class Packed:
    """What a snapshot stages, copied at once: the members of an archive. ``unpack`` brings them to a restore."""

    def __init__(self, staged: Staged, folder: Path) -> None:
        self.part = part_of(staged)
        self._members: list[tuple[str, Path]] = []
        folder.mkdir()
        for number, tree in enumerate(staged.trees):
            copy = folder / str(number)
            if Path(tree.root).is_dir():
                shutil.copytree(tree.root, copy, symlinks=True)
            else:
                shutil.copy2(tree.root, copy)
            found = [copy, *(sorted(copy.rglob("*")) if copy.is_dir() else ())]
            for path in found:
                inside = path.relative_to(copy).as_posix()
                self._members.append((tree.at if inside == "." else f"{tree.at}/{inside}", path))

    def unpack(self, incoming: Any) -> None:
        for member, path in self._members:
            target = incoming.receive(member)
            if target is None:
                continue
            if path.is_dir() and not path.is_symlink():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target, follow_symlinks=False)


def brought(rig: Rig, packed: Packed, **more: Any) -> Any:
    incoming = rig.source.incoming(packed.part, RESTORE, **more)
    incoming.prepare()
    packed.unpack(incoming)
    return incoming


def leftovers(rig: Rig) -> list[str]:
    if rig.folder is None:
        staging = getattr(rig.source, "staging", Path("/nowhere"))  # records stay after a restore: a database is kept
        return [path.name for path in staging.glob("*") if path.name != "databases"]
    return [path.name for path in rig.folder.rglob(".scriptorium*")]
