"""The borg program on one repository: how it is called.

The passphrase and the address of the repository are in its environment, never among its arguments. It has no terminal
and no input: what it would ask is decided before.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from scriptorium import process
from scriptorium.errors import ScriptoriumError, StoreRefused, StoreUnavailable, ToolMissing, ToolStalled
from scriptorium.fs.system_errors import advice, reason_of
from scriptorium.stores.trees.borg.failures import NoRepository, failure
from scriptorium.stores.trees.password import PasswordSettings
from scriptorium.stores.trees.version import version_of

PROGRAM = "borg"
OLDEST = (1, 2)
_ANSWERS_WITHIN = 120.0  # seconds for what takes a moment, besides the wait for a lock
_KEPT = 20  # lines of the log
_SSH = "ssh -oBatchMode=yes -oConnectTimeout=20 -oServerAliveInterval=30"
_WRITES = ("init", "create", "delete", "compact", "prune")


@dataclass(frozen=True, slots=True)
class Borg:
    """``address``: borg's own word for the repository. ``lock_wait``: seconds to wait for another run."""

    address: str
    environment: Mapping[str, str]
    options: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    lock_wait: int = 0

    @property
    def folder(self) -> Path | None:
        """Where a repository on this machine lies."""
        return local_folder(self.address)

    def run(
        self, *words: str, input: bytes | None = None, cwd: Path | None = None, quick: bool = True, making: bool = False
    ) -> bytes:
        """Run it to its end; returns its standard output. ``making``: there need not be a repository yet. Warnings are
        no failure."""
        argv = self._argv(words, making=making)
        within = _ANSWERS_WITHIN + self.lock_wait if quick else None
        try:
            done = process.run(
                argv,
                env=self._environment(),
                input=input,
                cwd=cwd,
                timeout=within,
                secrets=self.secrets,
                check=False,
            )
        except ToolStalled as error:
            raise StoreUnavailable("the repository does not answer in time", on=self.address, hint=error.what) from None
        failed = self._meaning(done.status, done.stderr)
        if failed is not None:
            raise failed
        return done.stdout

    @contextlib.contextmanager
    def stream(self, *words: str) -> Iterator[io.BufferedReader]:
        """Its standard output as a stream; what its failure means is raised when the block ends."""
        argv = self._argv(words)
        with process.stream(argv, env=self._environment(), secrets=self.secrets, meaning=self._meaning) as output:
            yield output

    @contextlib.contextmanager
    def followed(self, *words: str, cwd: Path, input: IO[bytes]) -> Iterator[Follower]:
        """What it logs while it works, as records. ``input``: what it reads."""
        follower = Follower(deque(maxlen=_KEPT))

        def meaning(status: int, _: str) -> ScriptoriumError | None:
            follower.warned = status == 1
            return self._meaning(status, process.mask("\n".join(follower.lines), self.secrets))

        argv, stdin = self._argv(words), input.fileno()
        with process.stream(
            argv, env=self._environment(), cwd=cwd, stdin=stdin, merged=True, secrets=self.secrets, meaning=meaning
        ) as output:
            follower.output = output
            yield follower

    def _meaning(self, status: int, logged: str) -> ScriptoriumError | None:
        return failure(self.address, status, logged.splitlines()) if status not in (0, 1) else None

    def _argv(self, words: Sequence[str], *, making: bool = False) -> list[str]:
        require_program()
        folder = self.folder
        if folder is not None and not making:
            _require_place(folder, self.address)
        more = ["--bypass-lock"] if folder is not None and words[0] not in _WRITES and _read_only(folder) else []
        return [PROGRAM, "--log-json", f"--lock-wait={self.lock_wait}", *self.options, words[0], *more, *words[1:]]

    def _environment(self) -> Mapping[str, str]:
        def asked(name: str, otherwise: str) -> str:
            return process.variable(name) or otherwise

        moved, unknown = "BORG_RELOCATED_REPO_ACCESS_IS_OK", "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK"
        return {
            "BORG_RSH": asked("BORG_RSH", _SSH),
            moved: asked(moved, "no"),
            unknown: asked(unknown, "no"),
            "BORG_EXIT_CODES": "legacy",
            "BORG_DISPLAY_PASSPHRASE": "no",
            "LC_ALL": "C.UTF-8",  # paths are printed byte by byte
            "TZ": "UTC",  # borg prints times without a zone
            **self.environment,
            "BORG_REPO": self.address,
        }


class Follower:
    """The log of a run that goes on: iterate over it."""

    def __init__(self, lines: deque[str]) -> None:
        self.lines = lines
        self.output: IO[bytes] = io.BytesIO()
        self.warned = False

    def __iter__(self) -> Iterator[Mapping[str, object]]:
        for line in self.output:
            text = line.decode("utf-8", "replace")
            try:
                record = json.loads(text)
            except ValueError:
                self.lines.append(text)
                continue
            if not isinstance(record, dict):
                continue
            if record.get("type") == "log_message":
                self.lines.append(text.strip())
            yield record


def local_folder(address: str) -> Path | None:
    """The folder of a repository on this machine; ``None`` for another machine's."""
    path = address.removeprefix("file://")
    return Path(path) if path.startswith("/") else None


def _read_only(folder: Path) -> bool:
    """Whether no lock can be made: then nobody can write there, and what lies there is read without one."""
    return not os.access(folder, os.W_OK)


def _require_place(folder: Path, name: str) -> None:
    """Fail with a reason where borg says too little."""
    hint = "the first backup makes it"
    try:
        config = (folder / "config").read_bytes()
    except FileNotFoundError:
        if not folder.is_dir() or not any(folder.iterdir()):
            raise NoRepository("there is no repository yet", on=name, hint=hint) from None
        config = b""
    except OSError as error:
        raise StoreUnavailable(
            f"the repository does not answer: {reason_of(error)}", on=name, hint=advice(error, folder)
        ) from None
    if b"[repository]" not in config:
        raise StoreRefused("this folder is no repository of borg", on=name, hint="name another, or an empty one")
    version = re.search(rb"^version *= *(\d+)", config, re.MULTILINE)
    if version is not None and version[1] != b"1":
        raise StoreRefused("the repository is of borg 2, which this program does not use", on=name)


def require_program() -> tuple[int, ...]:
    """The version of borg here. ``ToolMissing`` where there is none, or one that is too old or too new."""
    version = version_of(PROGRAM, oldest=OLDEST, package="borgbackup", asked="--version")
    if version[0] > 1:
        raise ToolMissing(
            f"borg {'.'.join(map(str, version))} is too new: its repositories and commands are others",
            on=PROGRAM,
            hint="install borg 1.2 or 1.4",
        )
    return version


def passphrase_of(settings: PasswordSettings, store: str) -> str:
    """The passphrase of the settings; empty where they name none. ``StoreRefused`` where it is not to be had."""
    if not settings.password_ways:
        return ""
    value = settings.password_value(store)
    if value is not None:
        return value
    hint = "check password_file, password_env or password_command of the store"
    try:
        if settings.password_file is not None:
            return settings.password_file.read_text().rstrip("\n")
        words = shlex.split(settings.password_command)
        return process.run(words, timeout=_ANSWERS_WITHIN).stdout.decode().rstrip("\n")
    except OSError as error:
        reason = reason_of(error)
    except ScriptoriumError as error:
        reason = error.what
    except ValueError:
        reason = "it is no text"
    raise StoreRefused(f"the password of the repository cannot be had: {reason}", on=store, hint=hint)
