"""The rclone program on one remote: how it is called, and what its failures mean.

What it needs for a remote (keys, passwords) is in its environment, never among its arguments. It tries once: who calls
tries again. Its exit code decides where it can; most failures are 1, and there its text does.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from scriptorium import process
from scriptorium.errors import (
    DamageFound,
    NoSpace,
    NotFound,
    ScriptoriumError,
    StoreRefused,
    StoreUnavailable,
    ToolFailed,
    ToolStalled,
)
from scriptorium.manifest import Record
from scriptorium.progress import Advance
from scriptorium.stores.trees.version import version_of

PROGRAM = "rclone"
OLDEST = (1, 60)
_NO_FOLDER, _NO_FILE, _IMMUTABLE = 3, 4, 6
_ANSWERS_WITHIN = 300.0  # seconds for what moves no contents
_BOUNDED = ("--retries=1", "--low-level-retries=3", "--contimeout=15s", "--timeout=2m", "--ask-password=false")
_UNKNOWN = re.compile(r"didn't find section in config file|unknown remote|didn't find backend called", re.IGNORECASE)
_LOCKED_CONFIG = re.compile(
    r"unable to decrypt configuration|password for config|couldn't decrypt configuration|password command|"
    r"--password-command",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"\b40[13]\b|access ?denied|forbidden|unauthori[sz]ed|SignatureDoesNotMatch|InvalidAccessKeyId|invalid_grant"
    r"|unable to authenticate|permission denied|token expired|operation not permitted|RequestTimeTooSkewed"
    r"|InvalidBucketName|couldn't (?:login|fetch token)|password (?:is )?incorrect|failed to make crypt",
    re.IGNORECASE,
)
_DAMAGE = re.compile(
    r"failed to authenticate decrypted block|corrupted on transfer|not an encrypted file|bad magic"
    r"|file has truncated block|hash differ",
    re.IGNORECASE,
)
_FULL = re.compile(
    r"no space left on device|quota|insufficient ?storage|\b507\b|StorageFull|not enough (?:space|storage)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Abilities:
    """``hashes``: those that a remote gives; ``computes``: of what is stored, when they are asked for. ``copies``: it
    copies by itself. ``bucket``: it has keys and no folders. ``cleans``: it
    finds unfinished uploads. ``caseless``: it takes ``a`` and ``A`` for one name."""

    hashes: tuple[str, ...]
    copies: bool
    computes: bool
    bucket: bool
    caseless: bool
    cleans: bool


@dataclass(frozen=True, slots=True)
class Rclone:
    """``remote``: as rclone calls it, with a path. ``name``: of it, for people. ``words``: for every call."""

    remote: str
    name: str
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    words: tuple[str, ...] = ()
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def at(self, *path: str) -> str:
        """The address of what lies below the remote's path."""
        below = "/".join(part for part in path if part)
        if not below:
            return self.remote
        return f"{self.remote}{below}" if self.remote.endswith((":", "/")) else f"{self.remote}/{below}"

    def run(self, *words: str, input: bytes | None = None, within: float | None = _ANSWERS_WITHIN) -> process.Outcome:
        """Run it to its end. Raises what its failure means; ``NotFound`` where there is no such file or folder."""
        require_program()
        try:
            done = process.run(
                self._argv(words),
                env=self.environment,
                input=input,
                timeout=within,
                secrets=self.secrets,
                check=False,
            )
        except ToolStalled as error:
            raise StoreUnavailable("the remote does not answer in time", on=self.name, hint=error.what) from None
        if done.status != 0:
            raise self.failure(done.status, done.stderr)
        return done

    @contextlib.contextmanager
    def stream(self, *words: str) -> Iterator[io.BufferedReader]:
        """Its standard output as a stream; what its failure means is raised when the block ends."""
        require_program()
        try:
            with process.stream(self._argv(words), env=self.environment, secrets=self.secrets) as output:
                yield output
        except ToolFailed as error:
            raise self.failure(error.status or 0, error.hint.replace("; ", "\n") or error.what) from None

    def transfer(self, *words: str, advance: Advance | None = None) -> None:
        """Copy; ``advance`` gets the bytes that were moved, about once a second."""
        require_program()
        log = ("--use-json-log", "--log-file=/dev/stdout", "--stats=1s", "--stats-log-level=NOTICE")
        messages: list[str] = []
        moved = 0
        try:
            with process.stream(self._argv((*words, *log)), env=self.environment, secrets=self.secrets) as output:
                for line in output:
                    at, message = _progress(line)
                    messages = [*messages[-20:], message] if message else messages
                    if at > moved and advance is not None:
                        advance(at - moved)
                        moved = at
        except ToolFailed as error:
            printed = process.mask("\n".join(messages), self.secrets) or error.hint or error.what
            raise self.failure(error.status or 0, printed) from None

    def failure(self, status: int, output: str) -> ScriptoriumError:
        """What an exit code means, and the text where that says too little."""
        lines = [_plain(line) for line in process.mask(output, self.secrets).splitlines() if line.strip()]
        last = lines[-1] if lines else f"it ended with status {status}"
        if status < 0:
            return StoreUnavailable("rclone was ended by a signal", on=self.name, hint="try again")
        if _UNKNOWN.search(output):
            return StoreRefused(
                "rclone does not know this remote",
                on=self.name,
                hint="rclone listremotes names those that it knows; see remote, config and options of the store",
            )
        if _LOCKED_CONFIG.search(output):
            return StoreRefused(
                "rclone's configuration is encrypted and does not open",
                on=self.name,
                hint="check config_password_file, config_password_env or config_password_command of the store",
            )
        if status in (_NO_FOLDER, _NO_FILE):
            return NotFound("there is no such file or folder", on=self.name)
        if _DAMAGE.search(output):
            return DamageFound(f"rclone cannot read it: {last}", on=self.name, hint="use another copy of this backup")
        if _FULL.search(output):
            return NoSpace(
                f"the remote is full: {_first(_FULL, lines)}",
                on=self.name,
                hint="free some space there, or run cleanup",
            )
        if _REFUSED.search(output):
            return StoreRefused(
                f"the remote refuses: {_first(_REFUSED, lines)}",
                on=self.name,
                hint="check its keys, its rights and this machine's clock",
            )
        if status == _IMMUTABLE:
            return StoreRefused(f"the remote must not be changed: {last}", on=self.name, hint="use another label")
        return StoreUnavailable(f"rclone failed: {last}", on=self.name, hint="; ".join(lines[-3:-1]) or "try again")

    @property
    def abilities(self) -> Abilities:
        return _abilities(self)

    def _argv(self, words: Sequence[str]) -> list[str]:
        return [PROGRAM, *words, *_BOUNDED, *self.words]

    def __hash__(self) -> int:
        return hash((self.remote, tuple(sorted(self.environment.items())), self.words))


@functools.lru_cache(maxsize=32)
def _abilities(program: Rclone) -> Abilities:
    found = Record(json.loads(program.run("backend", "features", program.remote).stdout or b"{}"), "features of rclone")
    features = found.optional_record("Features")
    raw = features.raw if features is not None else {}
    hashes = found.texts("Hashes") if found.raw.get("Hashes") else ()
    return Abilities(
        tuple(hashes),
        copies=bool(raw.get("Copy")),
        computes=bool(raw.get("SlowHash")),
        bucket=bool(raw.get("BucketBased")),
        caseless=bool(raw.get("CaseInsensitive")),
        cleans=bool(raw.get("CleanUp")),
    )


def _progress(line: bytes) -> tuple[int, str]:
    """The bytes that were moved so far, and the message of a line about an error."""
    try:
        entry = json.loads(line)
    except ValueError:
        return 0, line.decode("utf-8", "replace").strip()
    stats = entry.get("stats") or {}
    if stats:
        return int(stats.get("bytes") or 0), ""
    return 0, " ".join(str(entry[name]) for name in ("object", "msg") if entry.get(name))


def _first(pattern: re.Pattern[str], lines: Sequence[str]) -> str:
    """The line that says why; older ones write one message in several lines."""
    return next((line for line in lines if pattern.search(line)), lines[-1])


def _plain(line: str) -> str:
    """A line of its log without the time and the level."""
    return re.sub(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d (?:[A-Z]+ *: )?", "", line.strip())


def require_program() -> tuple[int, ...]:
    """The version of rclone here. ``ToolMissing`` where there is none, or one that is too old."""
    return version_of(PROGRAM, oldest=OLDEST, package=PROGRAM)


@functools.lru_cache(maxsize=32)
def obscured(secret: str) -> str:
    """A password as rclone's configuration wants it. It is another word at each call; one is enough."""
    require_program()
    return (
        process.run([PROGRAM, "obscure", "-"], input=secret.encode(), timeout=60, secrets=(secret,))
        .stdout.decode()
        .strip()
    )


@functools.lru_cache(maxsize=8)
def password_options(backend: str) -> frozenset[str]:
    """Which options of a backend are passwords."""
    require_program()
    providers = json.loads(process.run([PROGRAM, "config", "providers"], timeout=60).stdout or b"[]")
    return frozenset(
        str(option["Name"])
        for provider in providers
        if backend in (provider.get("Name"), provider.get("Prefix"))
        for option in provider.get("Options") or ()
        if option.get("IsPassword")
    )
