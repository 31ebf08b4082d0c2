"""An address that leads to a connection pooler: refused before anything is set in a session of the application."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from postgres_items import ID, ITEMS, ask, back_up, unpack
from postgres_relay import Relay

from scriptorium.errors import SettingsError
from scriptorium.model import Part, Staged
from scriptorium.operations import database
from scriptorium.sources import RestoreOptions
from scriptorium.sources.postgres.embedded import EmbeddedPostgres, _free_port
from scriptorium.sources.postgres.source import PostgresSource

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="no pgbouncer here: apt-get install pgbouncer")
Taken = tuple[Staged, Part]
ALL_SETTINGS = "SELECT name, setting FROM pg_settings WHERE source IN ('session', 'client') ORDER BY name"


class Pooler:
    """PgBouncer with one session of the server for all clients: the next client gets its settings."""

    def __init__(self, server: EmbeddedPostgres, mode: str, more: str = "") -> None:
        self.port = _free_port()
        size = 3 if mode == "session" else 1
        # Its user may not enter the tests' folders, and nothing secret is in it.
        self._settings = Path(tempfile.mkstemp(prefix="pgbouncer-", suffix=".ini")[1])
        self._settings.write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port} user={server.user} password={server.password}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nauth_type = any\npool_mode = {mode}\n"
            f"default_pool_size = {size}\nunix_socket_dir =\n{more}\n"
        )
        self._settings.chmod(0o644)
        user = ["--user=nobody"] if os.geteuid() == 0 else []
        assert PGBOUNCER is not None
        argv = [PGBOUNCER, "--quiet", *user, str(self._settings)]
        self._child = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")

    def url(self, name: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def wait(self, name: str) -> None:
        until = time.monotonic() + 20
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.url(name)).close()
                return
            assert time.monotonic() < until and self._child.poll() is None, "pgbouncer does not answer"
            time.sleep(0.05)

    def stop(self) -> None:
        self._child.terminate()
        self._child.wait()
        self._settings.unlink()


@pytest.fixture
def pooler(server: EmbeddedPostgres) -> Iterator[Callable[..., Pooler]]:
    running: list[Pooler] = []

    def start(mode: str, more: str = "") -> Pooler:
        running.append(Pooler(server, mode, more))
        return running[-1]

    yield start
    for one in running:
        one.stop()


def load_in_place(source: PostgresSource, taken: Taken, folder: Path) -> None:
    incoming = source.incoming(taken[1], ID, options=RestoreOptions.chosen({"clean": True}))
    incoming.prepare()
    unpack(taken[0], incoming)
    incoming.load()


DOORS: dict[str, Callable[[PostgresSource, Taken, Path], object]] = {
    "survey": lambda source, taken, folder: source.survey(()),
    "create": lambda source, taken, folder: source.capture(folder / "captured"),
    "plan": lambda source, taken, folder: [look() for look in source.preconditions(taken[1]).values()],
    "restore": lambda source, taken, folder: source.incoming(taken[1], ID).prepare(),
    "restore in place": load_in_place,
    "drill": lambda source, taken, folder: source.rehearsal(taken[1], ID, folder).prepare(),
    "former": lambda source, taken, folder: source.drop_previous(0),
    "unfinished": lambda source, taken, folder: source.tidy(),
    "backup": lambda source, taken, folder: database.backup_database(source, folder / "a.dump"),
    "load": lambda source, taken, folder: database.restore_database(source, folder / "there.dump", clean=True),
    "load sql": lambda source, taken, folder: database.restore_database(source, folder / "there.sql", clean=True),
    "check": lambda source, taken, folder: database.check_database(source),
}


@pytest.mark.parametrize("mode", ["transaction", "statement", "session"])
def test_every_way_to_the_server_is_refused_and_leaves_nothing(
    server: EmbeddedPostgres, new_database: Callable[..., str], pooler: Callable[..., Pooler], tmp_path: Path, mode: str
) -> None:
    url = new_database(server, ITEMS)
    name = url.rpartition("/")[2]
    direct = PostgresSource(database=url, tools=server.programs, staging=tmp_path / "staging")
    taken = back_up(direct, tmp_path / "taken")
    database.backup_database(direct, tmp_path / "there.dump")
    database.backup_database(direct, tmp_path / "there.sql", format="sql")
    between = pooler(mode, "ignore_startup_parameters = extra_float_digits, options")
    between.wait(name)
    source = direct.model_copy(update={"database": between.url(name)})
    before = ask(between.url(name), ALL_SETTINGS)
    for door, enter in DOORS.items():
        (tmp_path / "captured").mkdir(exist_ok=True)
        with pytest.raises(SettingsError, match="pooler") as refused:
            enter(source, taken, tmp_path)
        assert "directly" in refused.value.hint, door
        for _ in range(3):
            assert ask(between.url(name), ALL_SETTINGS) == before, door
            assert ask(between.url(name), "SELECT count(*) FROM items") == [(2000,)], door
    assert ask(url, "SELECT count(*) FROM items") == [(2000,)]


def test_a_pooler_that_keeps_a_session_for_each_client(
    server: EmbeddedPostgres, new_database: Callable[..., str], pooler: Callable[..., Pooler], tmp_path: Path
) -> None:
    """If the settings ask for it, also when the pooler resets nothing itself."""
    url = new_database(server, ITEMS)
    name = url.rpartition("/")[2]
    between = pooler("session", "server_reset_query =\nignore_startup_parameters = extra_float_digits, options")
    between.wait(name)
    source = PostgresSource(database=between.url(name), tools=server.programs, pooler="session", jobs=1)
    before = ask(between.url(name), ALL_SETTINGS)
    assert source.survey(()).bytes > 0
    assert database.check_database(source).sound
    for _ in range(6):
        assert ask(between.url(name), ALL_SETTINGS) == before


def test_a_pooler_that_was_declared_wrongly(
    server: EmbeddedPostgres, new_database: Callable[..., str], pooler: Callable[..., Pooler], tmp_path: Path
) -> None:
    url = new_database(server, ITEMS)
    name = url.rpartition("/")[2]
    between = pooler("transaction")
    between.wait(name)
    before = ask(between.url(name), ALL_SETTINGS)
    with pytest.raises(SettingsError, match="several clients"):
        PostgresSource(database=between.url(name), pooler="session").survey(())
    assert ask(between.url(name), ALL_SETTINGS) == before


def test_a_pooler_that_does_not_take_the_options_of_an_address(
    server: EmbeddedPostgres, new_database: Callable[..., str], pooler: Callable[..., Pooler]
) -> None:
    url = new_database(server, ITEMS)
    name = url.rpartition("/")[2]
    between = pooler("transaction")
    between.wait(name)
    with pytest.raises(SettingsError, match="pooler") as refused:
        PostgresSource(database=f"{between.url(name)}?options=-c%20jit%3Doff").survey(())
    assert "directly" in refused.value.hint


def test_a_pooler_that_passes_on_the_keys_of_the_server(
    server: EmbeddedPostgres, new_database: Callable[..., str], tmp_path: Path
) -> None:
    """It is recognised by the session that two clients share."""
    url = new_database(server, ITEMS)
    relay = Relay(url)
    try:
        source = PostgresSource(database=relay.url, tools=server.programs, jobs=1)
        (tmp_path / "captured").mkdir()
        for _ in range(3):  # whichever of the sessions comes first
            with pytest.raises(SettingsError, match="pooler"):
                source.capture(tmp_path / "captured")
        for _ in range(4):
            assert ask(relay.url, "SELECT count(*) FROM items") == [(2000,)]
            assert ask(relay.url, "SHOW search_path") == [('"$user", public',)]
    finally:
        relay.stop()


def test_what_only_passes_bytes_on_is_no_pooler(
    server: EmbeddedPostgres, new_database: Callable[..., str], tmp_path: Path
) -> None:
    url = new_database(server, ITEMS)
    with passing_on(server.port) as port:
        source = PostgresSource(database=url.replace(f":{server.port}/", f":{port}/"), tools=server.programs, jobs=1)
        _, part = back_up(source, tmp_path / "stage")
    assert part.tables is not None and part.tables["public.items"].rows == 2000


@contextlib.contextmanager
def passing_on(port: int) -> Iterator[int]:
    listening = socket.create_server(("127.0.0.1", 0))

    def pump(one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, server = listening.accept()[0], socket.create_connection(("127.0.0.1", port))
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.close()
