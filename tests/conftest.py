"""What every folder of tests shares: a small real library and its settings, both layouts of Kuzu, a Prefect server."""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import kuzu_writer
import pytest
from filelock import FileLock
from prefect_server import prefect_server
from s3_server import stop_s3_server
from ssh_server import stop_ssh_server

from scriptorium import settings as settings_module
from scriptorium.settings import Settings, load

os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
gc.set_threshold(10_000)  # nearly everything that is imported and collected here stays
# A shell starts what runs in its background deaf to Ctrl-C, and children inherit that; here they must hear it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """On which filesystem the tests of full disks ran, for the report of a machine that cannot mount one."""
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    kinds = Counter(kind for report in reports for name, kind in report.user_properties if name == "filesystem")
    if kinds:
        terminalreporter.write_line(
            "full disks: " + ", ".join(f"{kind} ({times} tests)" for kind, times in kinds.items())
        )


@pytest.fixture(scope="session", autouse=True)
def _state_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Settings without a workspace work in the user's own folder of states: each worker has another one."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@dataclass(frozen=True)
class Place:
    """A Bibliotheca library on disk, with the settings that protect it."""

    folder: Path
    home: Path
    backups: Path
    config: Path

    @property
    def database(self) -> Path:
        return self.home / "data" / "kuzu" / "bibliotheca.db"

    @property
    def settings(self) -> Settings:
        return load(self.config, {})

    def execute(self, *queries: str) -> list[list[object]]:
        """Run queries on the living database; returns the rows of the last one."""
        import kuzu

        database = kuzu.Database(str(self.database))
        connection = kuzu.Connection(database)
        rows: list[list[object]] = []
        for query in queries:
            result = connection.execute(query)
            rows = []
            while result.has_next():
                rows.append(result.get_next())
            result.close()
        connection.close()
        database.close()
        return rows


@functools.cache
def _database(books: int) -> Path:
    """The database of a library of this many books: made once by each process, and copied."""
    folder = Path(tempfile.mkdtemp(prefix="scriptorium-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    place = Place(folder, folder / "library", folder / "backups", folder / "scriptorium.toml")
    place.database.parent.mkdir(parents=True)
    place.execute(
        "CREATE NODE TABLE Book(id STRING, title STRING, pages INT64, PRIMARY KEY(id))",
        "CREATE NODE TABLE Person(id STRING, name STRING, PRIMARY KEY(id))",
        "CREATE REL TABLE AUTHORED(FROM Person TO Book, role STRING)",
        f"UNWIND range(1, {books}) AS i "
        "CREATE (:Book {id: CAST(i AS STRING), title: 'Title ' + CAST(i AS STRING), pages: i})",
        "UNWIND range(1, 10) AS i CREATE (:Person {id: CAST(i AS STRING), name: 'Person ' + CAST(i AS STRING)})",
        "MATCH (p:Person), (b:Book) WHERE p.id = b.id CREATE (p)-[:AUTHORED {role: 'author'}]->(b)",
    )
    return place.database.parent


def make_place(folder: Path, books: int = 50) -> Place:
    """A library of a few books, covers and settings."""
    home = folder / "library"
    place = Place(folder, home, folder / "backups", folder / "scriptorium.toml")
    for name in ("covers/sub", "uploads", "logs", "locks"):
        (home / "data" / name).mkdir(parents=True)
    shutil.copytree(_database(books), place.database.parent)
    (home / "data" / "covers" / "a.jpg").write_bytes(os.urandom(2000))
    (home / "data" / "covers" / "sub" / "b.jpg").write_bytes(os.urandom(3000))
    (home / "data" / "uploads" / "notes.txt").write_text("notes\n" * 100)
    (home / "data" / "ai_config.json").write_text("{}")
    (home / "data" / "logs" / "app.log").write_text("volatile")
    (home / "config.py").write_text("DEBUG = False\n")
    (home / ".env").write_text("SECRET_KEY=very-secret-value\n")
    (home / ".env").chmod(0o600)
    (home / "docker-compose.yml").write_text("services: {}\n")
    (home / "requirements.txt").write_text("flask\n")
    place.config.write_text(
        '[libraries.bibliotheca]\npreset = "bibliotheca"\nhome = "library"\n\n'
        '[stores.local]\nkind = "local"\npath = "backups"\n'
    )
    return place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)


@pytest.fixture(scope="session")
def new_place() -> Callable[..., Place]:
    return make_place


@pytest.fixture
def chosen(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """The library of ``place``, with its settings as those of this process."""
    monkeypatch.setenv(settings_module.CONFIG_VARIABLE, str(place.config))
    yield place


_TESTS = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def lab() -> ModuleType:
    """The module ``kuzu_writer``."""
    return kuzu_writer


@pytest.fixture(scope="session")
def old_kuzu() -> Path:
    """A folder with kuzu 0.10.0 in it."""
    cache = Path(os.environ.get("SCRIPTORIUM_TEST_CACHE") or _TESTS.parent / ".cache")
    try:
        return Path(kuzu_writer.old_engine(cache))
    except OSError as error:
        pytest.skip(f"kuzu 0.10.0 cannot be had: {error}")


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Makes a ``PREFECT_HOME`` in a folder, with its database at the newest version.

    Bringing it there takes Prefect 20 s; it is done once for all processes of the tests, and copied.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    template = shared / "prefect-home"
    with FileLock(shared / "prefect-home.lock"):
        if not template.exists():
            made = shared / "prefect-home.partial"
            kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
            command = [Path(sys.executable).with_name("prefect"), "server", "database", "upgrade", "-y"]
            subprocess.run(command, env={**kept, "PREFECT_HOME": str(made)}, check=True, timeout=240)
            made.rename(template)

    def copy(home: Path) -> Path:
        shutil.copytree(template, home)
        return home

    return copy


@pytest.fixture(scope="session")
def _server_that_sleeps(
    tmp_path_factory: pytest.TempPathFactory, prefect_home: Callable[[Path], Path]
) -> Iterator[str]:
    with prefect_server(prefect_home(tmp_path_factory.mktemp("server") / "prefect")) as (url, process):
        sleeper = Sleeper(process.pid)
        _sleepers.append(sleeper)
        yield url
        _sleepers.remove(sleeper)
        sleeper.wake()


@pytest.fixture(scope="session")
def server(_server_that_sleeps: str) -> str:
    """A real Prefect server on a free port: its API URL. It is stopped while tests run that do not use it."""
    return _server_that_sleeps


class Sleeper:
    """A group of processes that is stopped between tests that need it: idle, a server of Prefect takes a fiftieth of a
    processor from all the others."""

    def __init__(self, group: int) -> None:
        self._group = group
        self._asleep = False

    def sleep(self) -> None:
        if not self._asleep:
            os.killpg(self._group, signal.SIGSTOP)
            self._asleep = True

    def wake(self) -> None:
        if self._asleep:
            os.killpg(self._group, signal.SIGCONT)
            self._asleep = False


_sleepers: list[Sleeper] = []


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if _needs_the_server(item):
        for sleeper in _sleepers:
            sleeper.wake()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    if _sleepers and nextitem is not None and _needs_the_server(item) and not _needs_the_server(nextitem):
        _send_everything()
        for sleeper in _sleepers:
            sleeper.sleep()


def _needs_the_server(item: pytest.Item) -> bool:
    return "_server_that_sleeps" in getattr(item, "fixturenames", ())


def _send_everything() -> None:
    """End the threads of this process that send to the server, if there are any; the next flow starts new ones."""
    if "prefect.events.worker" in sys.modules:
        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogWorker

        APILogWorker.drain_all()
        EventsWorker.drain_all()


@pytest.fixture(scope="module", autouse=True)
def _stop_s3_server() -> Iterator[None]:
    """At the end of a file: an idle server would take a tenth of a processor from all the others."""
    yield
    stop_s3_server()


@pytest.fixture(scope="session", autouse=True)
def _stop_ssh_server() -> Iterator[None]:
    yield
    stop_ssh_server()


@pytest.fixture
def children_of() -> Callable[[str], list[str]]:
    """Command lines of processes that carry this mark in their environment."""

    def find(mark: str) -> list[str]:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"SCRIPTORIUM_TEST_MARK={mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        return found

    return find
