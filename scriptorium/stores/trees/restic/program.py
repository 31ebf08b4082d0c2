"""The restic program on one repository: how it is called, and what its failures mean.

The password and the address of the repository are in its environment, never among its arguments. Nothing is decided by
the text that it prints where an exit code says it; restic 0.14 knows only 0, 1 and 3.
"""

from __future__ import annotations

import contextlib
import io
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from scriptorium import process
from scriptorium.errors import (
    ScriptoriumError,
    StoreRefused,
    StoreUnavailable,
    ToolFailed,
    ToolStalled,
)
from scriptorium.stores.trees.password import PasswordSettings
from scriptorium.stores.trees.restic.failures import Locked, NoRepository, failure, is_locked
from scriptorium.stores.trees.version import version_of

PROGRAM = "restic"
OLDEST = (0, 14)
_WRITING = ("backup", "copy", "forget", "init", "prune", "tag")
_listed: dict[tuple[str, str], tuple[float, bytes]] = {}  # by repository and tag: when, and what restic printed
_ANSWERS_WITHIN = 120.0  # seconds for what takes a moment; newer ones try again for a quarter of an hour
_CONNECTS_WITHIN = 10.0


@dataclass(frozen=True, slots=True)
class Restic:
    """``address``: restic's own word for the repository. ``name``: of it, without a secret."""

    address: str
    name: str
    environment: Mapping[str, str]
    options: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()

    @property
    def folder(self) -> Path | None:
        """Where a repository on this machine lies."""
        return local_folder(self.address)

    def run(
        self,
        *words: str,
        input: bytes | None = None,
        cwd: Path | None = None,
        within: float | None = _ANSWERS_WITHIN,
        found_damage: bool = False,
        making: bool = False,
    ) -> process.Outcome:
        """Run it to its end. Raises what its failure means; with ``found_damage``, 1 is an answer. ``making``: there
        need not be a repository yet. A lock that a dead run of this machine left is removed."""
        try:
            return self._run(words, input, cwd, within, found_damage=found_damage, making=making)
        except Locked:
            self._unlock()
            return self._run(words, input, cwd, within, found_damage=found_damage, making=making)
        finally:
            self._changed(words)

    def listed(self, tag: str, *, recent: float = 0.0) -> bytes:
        """The list of the snapshots with a tag, as restic prints it; empty where there is no repository. It may be
        ``recent`` seconds old, if this process has written nothing since."""
        at, known = _listed.get((self.address, tag), (0.0, b""))
        if time.monotonic() - at < recent:
            return known
        try:
            known = self.run("snapshots", "--json", f"--tag={tag}").stdout
        except NoRepository:
            return b""
        _listed[self.address, tag] = time.monotonic(), known
        return known

    def _changed(self, words: Sequence[str]) -> None:
        """Forget the lists of snapshots if a command changes them."""
        if words[0] in _WRITING:
            for one in [one for one in _listed if one[0] == self.address]:
                _listed.pop(one, None)

    def _unlock(self) -> None:
        """Remove what is stale: another host's lock, and a living run's, stay."""
        self._run(("unlock",), None, None, _ANSWERS_WITHIN)

    def _run(
        self,
        words: Sequence[str],
        input: bytes | None,
        cwd: Path | None,
        within: float | None,
        *,
        found_damage: bool = False,
        making: bool = False,
    ) -> process.Outcome:
        with contextlib.suppress(*([NoRepository] if making else [])):
            self._prepare()
        try:
            done = process.run(
                self._argv(words),
                env=self._environment(),
                input=input,
                cwd=cwd,
                timeout=within,
                secrets=self.secrets,
                check=False,
            )
        except ToolStalled as error:
            raise StoreUnavailable("the repository does not answer in time", on=self.name, hint=error.what) from None
        if done.status != 0 and not (found_damage and done.status == 1 and not is_locked(done.stderr)):
            raise self.failure(done.status, done.stderr)
        return done

    @contextlib.contextmanager
    def stream(self, *words: str, cwd: Path | None = None) -> Iterator[io.BufferedReader]:
        """Its standard output as a stream; what its failure means is raised when the block ends, or before it begins.
        A lock that a dead run of this machine left is removed."""
        with contextlib.ExitStack() as running:
            output = running.enter_context(self._stream(words, cwd))
            if not output.peek(1):  # it ended without output
                output = io.BufferedReader(io.BytesIO())
                try:
                    running.pop_all().close()
                except Locked:
                    self._unlock()
                    output = running.enter_context(self._stream(words, cwd))
            yield output

    @contextlib.contextmanager
    def _stream(self, words: Sequence[str], cwd: Path | None) -> Iterator[io.BufferedReader]:
        self._prepare()
        self._changed(words)
        try:
            with process.stream(self._argv(words), env=self._environment(), cwd=cwd, secrets=self.secrets) as output:
                yield output
        except ToolFailed as error:
            raise self.failure(error.status or 0, error.hint.replace("; ", "\n") or error.what) from None
        finally:
            self._changed(words)

    def failure(self, status: int, output: str) -> ScriptoriumError:
        """What an exit code means, and the text where that says too little."""
        return failure(self.name, status, process.mask(output, self.secrets))

    def _argv(self, words: Sequence[str]) -> list[str]:
        return [PROGRAM, *self.options, *words]

    def _environment(self) -> Mapping[str, str]:
        return {
            "RESTIC_PROGRESS_FPS": "1",  # newer ones print up to 60 lines a second
            "RESTIC_REPOSITORY_FILE": "",
            **self.environment,
            "RESTIC_REPOSITORY": self.address,
        }

    def _prepare(self) -> None:
        """Fail at once, and with a reason, where restic would try for a long time or say too little."""
        require_program()
        folder = self.folder
        if folder is not None:
            _require_place(folder, self.name)
        elif (host := network_address(self.address)) is not None:
            _require_answer(*host, self.name)


def local_folder(address: str) -> Path | None:
    """The folder of a repository on this machine; ``None`` for another machine's."""
    if address.startswith("local:"):
        return Path(address.removeprefix("local:"))
    return Path(address) if address.startswith("/") else None


def without_secrets(address: str) -> str:
    """The address as people may read it."""
    return re.sub(r"//[^/]*@", "//", address)


def secrets_of(address: str) -> tuple[str, ...]:
    """What of an address is secret: its user's password, as it stands there and as it is meant."""
    found = re.search(r"//[^/:]*:([^/]+)@", address)
    return tuple(dict.fromkeys((found[1], unquote(found[1])))) if found else ()


def network_address(address: str) -> tuple[str, int] | None:
    """Host and port of a server that speaks HTTP; other ways (SFTP, rclone) say themselves that nobody answers."""
    kind, _, rest = address.partition(":")
    if kind not in ("rest", "s3"):
        return None
    parts = urlsplit(rest if "://" in rest else f"https://{rest}")
    try:
        port = parts.port or (80 if parts.scheme == "http" else 443)
    except ValueError:
        return None
    return (parts.hostname, port) if parts.hostname else None


def _require_answer(host: str, port: int, name: str) -> None:
    try:
        socket.create_connection((host, port), timeout=_CONNECTS_WITHIN).close()
    except OSError as error:
        raise StoreUnavailable(
            f"the server of the repository does not answer: {error.strerror or error}",
            on=name,
            hint=f"is {host}:{port} right, and does the server run?",
        ) from None


def _require_place(folder: Path, name: str) -> None:
    try:
        entries = {entry.name for entry in folder.iterdir()}
    except FileNotFoundError:
        raise NoRepository("there is no repository yet", on=name, hint="the first backup makes it") from None
    except OSError as error:
        from scriptorium.fs.system_errors import advice, reason_of

        raise StoreUnavailable(
            f"the repository does not answer: {reason_of(error)}", on=name, hint=advice(error, folder)
        ) from None
    if not entries:
        raise NoRepository("there is no repository yet", on=name, hint="the first backup makes it")
    if "config" not in entries:
        raise StoreRefused("this folder is no repository of restic", on=name, hint="name another, or an empty one")


def require_program() -> tuple[int, ...]:
    """The version of restic here. ``ToolMissing`` where there is none, or one that is too old."""
    return version_of(PROGRAM, oldest=OLDEST, package=PROGRAM)


def password_environment(
    settings: PasswordSettings, store: str, prefix: str = "RESTIC_"
) -> tuple[dict[str, str], tuple[str, ...]]:
    """How restic gets the password, and what of it must not be shown. ``prefix``: of the variables; ``RESTIC_FROM_`` is
    for the repository that is copied from. ``SettingsError`` where the password is not there."""
    found = {f"{prefix}PASSWORD": "", f"{prefix}PASSWORD_FILE": "", f"{prefix}PASSWORD_COMMAND": ""}
    value = settings.password_value(store)
    if value is not None:
        return found | {f"{prefix}PASSWORD": value}, (value,)
    if settings.password_file is not None:
        return found | {f"{prefix}PASSWORD_FILE": str(settings.password_file)}, ()
    return found | {f"{prefix}PASSWORD_COMMAND": settings.password_command}, ()
