"""An sshd of the tests' own on a free port: its host key, the key that it lets in, and stores of rsync behind it."""

from __future__ import annotations

import ctypes
import functools
import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from scriptorium.stores import RsyncStore

SSHD = shutil.which("sshd", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")))
_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG


@functools.cache
def _libc() -> Any:
    return ctypes.CDLL(None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class SshServer:
    folder: Path
    port: int = field(default_factory=_free_port)
    child: subprocess.Popen[bytes] | None = None
    master: subprocess.Popen[bytes] | None = None
    shared_by: int = 0

    @property
    def host(self) -> str:
        return f"{getpass.getuser()}@127.0.0.1"

    def words(self, *, key: str = "key", known: str = "known") -> tuple[str, ...]:
        """The ssh command of a store. ``key``: ``key``, or ``stranger``; ``known``: the file of the hosts' keys."""
        options = ("IdentitiesOnly=yes", "GlobalKnownHostsFile=none", f"UserKnownHostsFile={self.folder / known}")
        more = (word for option in options for word in ("-o", option))
        return ("ssh", "-F", "none", "-p", str(self.port), "-i", str(self.folder / key), *more)

    def shared(self) -> tuple[str, ...]:
        """The same through one connection that stands, which saves most of the time."""
        return (*self.words(), "-S", str(self.folder / "shared"))

    def start(self) -> None:
        for key in ("host", "key", "stranger", "other"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / key)]
            subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
        shutil.copy(self.folder / "key.pub", self.folder / "authorized")
        for known, key in (("known", "host"), ("changed", "other")):
            public = " ".join((self.folder / f"{key}.pub").read_text().split()[:2])
            (self.folder / known).write_text(f"[127.0.0.1]:{self.port} {public}\n")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        options = {
            "Port": self.port,
            "ListenAddress": "127.0.0.1",
            "HostKey": self.folder / "host",
            "AuthorizedKeysFile": self.folder / "authorized",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "StrictModes": "no",
            "UsePAM": "no",
            "PidFile": "none",
            "PermitRootLogin": "prohibit-password",
            "Subsystem": "sftp internal-sftp",
        }
        file = self.folder / "sshd_config"
        file.write_text("".join(f"{name} {value}\n" for name, value in options.items()))
        with (self.folder / "log").open("ab") as log:
            self.child = subprocess.Popen(
                [str(SSHD), "-D", "-e", "-f", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=lambda: _libc().prctl(_DIES_WITH_PARENT, signal.SIGKILL),
            )
        deadline = time.monotonic() + 30
        while not self._answers():
            assert self.child.poll() is None, (self.folder / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, "sshd did not start in time"
            time.sleep(0.05)
        words = [*self.words(), "-M", "-N", "-S", str(self.folder / "shared"), self.host]
        self.master = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, preexec_fn=lambda: _libc().prctl(_DIES_WITH_PARENT, signal.SIGKILL)
        )
        while not (self.folder / "shared").exists():
            assert self.master.poll() is None and time.monotonic() < deadline, "no connection to sshd"
            time.sleep(0.02)
        (self.shared_by,) = self._connections()

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def cut(self) -> None:
        """End every connection that is not the shared one, as a host does that goes down."""
        for pid in self._connections():
            if pid != self.shared_by:
                os.kill(pid, signal.SIGKILL)

    def _connections(self) -> list[int]:
        """The processes of sshd that serve one connection each."""
        assert self.child is not None
        children = Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def stop(self) -> None:
        for child in (self.master, self.child):
            if child is not None:
                child.kill()
                child.wait(30)


_running: list[SshServer] = []


def ssh_server() -> SshServer:
    """The server of this process; it is started when the first test asks for it."""
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("sshd is not installed: apt-get install openssh-server")
    if not _running:
        server = SshServer(Path(tempfile.mkdtemp(prefix="scriptorium-ssh-")))
        _running.append(server)
        server.start()
    return _running[0]


def stop_ssh_server() -> None:
    while _running:
        server = _running.pop()
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)


def local_store(folder: Path, **more: Any) -> RsyncStore:
    """A store of rsync in ``folder``."""
    if shutil.which("rsync") is None:
        pytest.skip("rsync is not installed")
    return RsyncStore(path=folder, **more)


def remote_store(folder: Path, **more: Any) -> RsyncStore:
    """The same, by ssh."""
    if shutil.which("rsync") is None:
        pytest.skip("rsync is not installed")
    server = ssh_server()
    return RsyncStore(**{"target": f"{server.host}:{folder}", "ssh": server.shared(), **more})
