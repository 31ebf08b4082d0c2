"""What the failures of restic mean: by its exit code, and by the text where an old one has only 1."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from scriptorium.errors import (
    DamageFound,
    NoSpace,
    NotFound,
    Protected,
    ScriptoriumError,
    StoreRefused,
    StoreUnavailable,
)

_INCOMPLETE = 3
_NO_REPOSITORY, _LOCKED, _WRONG_PASSWORD = 10, 11, 12  # since 0.17
_ABSENT = re.compile(
    r"no such file or directory|does not exist|not exist|404|key does not exist|NoSuchKey|object not found",
    re.IGNORECASE,
)
_LOCK = re.compile(r"locked (?:exclusively )?by (PID \d+ on .+?)(?: by .*)?$", re.MULTILINE)
_NETWORK = re.compile(
    r"connection (?:refused|reset|timed out)|no such host|no route to host|network is unreachable|i/o timeout"
    r"|handshake timeout|broken pipe|server closed|context deadline exceeded|unexpected HTTP response \(5\d\d\)",
    re.IGNORECASE,
)
_DAMAGE = re.compile(
    r"ciphertext verification failed|invalid data returned|hash (?:does not match|mismatch)"
    r"|not found in (?:index|repository|snapshot)"
    r"|unable to load|failed to load|cannot load|load(?:Blob|Tree|Index)|contains? errors"
    r"|wrong (?:hash|length)|invalid (?:type|magic|header)|unexpected EOF|truncated|decrypt",
    re.IGNORECASE,
)

_NO_ENTRY = re.compile(
    r"signature we calculated does not match|access key id you provided does not exist|SignatureDoesNotMatch"
    r"|InvalidAccessKeyId|Access ?Denied|\b40[13]\b|unauthorized|Permission denied \(|Host key verification failed",
    re.IGNORECASE,
)
_CLOCK = re.compile(r"RequestTimeTooSkewed|request time and the server's time is too large", re.IGNORECASE)
_REMOVAL = re.compile(r"unable to remove <|Remove\(<")
_FORBIDDEN = re.compile(
    r"\b403\b|Forbidden|Access ?Denied|permission denied|operation not permitted|read-only file system", re.IGNORECASE
)


class NoRepository(StoreUnavailable):
    """There is none yet, where one may be made."""


class Locked(StoreUnavailable):
    """Somebody else works on the repository, or died while they did."""


class Incomplete(StoreUnavailable):
    """A snapshot was made, but something could not be read."""


@dataclass(frozen=True, slots=True)
class _Failed:
    """A run of restic that failed on the repository ``name``. ``last``: the last line of its output."""

    name: str
    status: int
    output: str
    lines: tuple[str, ...]

    @property
    def last(self) -> str:
        return self.lines[-1] if self.lines else f"it ended with status {self.status}"


def failure(name: str, status: int, output: str) -> ScriptoriumError:
    """The error of a failed run. ``output``: what it printed, without secrets."""
    reasons = output.partition("Is there a repository at the following location?")[0]
    failed = _Failed(name, status, output, tuple(line.strip() for line in reasons.splitlines() if line.strip()))
    return next((error for error in (one(failed) for one in _KINDS) if error is not None), None) or StoreUnavailable(
        f"restic failed: {failed.last}", on=name, hint="; ".join(failed.lines[-4:-1])
    )


def is_locked(output: str) -> bool:
    """Whether it ended because of somebody's lock."""
    return _LOCK.search(output) is not None


def _ended(failed: _Failed) -> ScriptoriumError | None:
    if failed.status < 0:
        return StoreUnavailable("restic was ended by a signal", on=failed.name, hint="try again")
    if failed.status == _INCOMPLETE and not _REMOVAL.search(failed.output):
        return Incomplete("restic could not read something", on=failed.name, hint=failed.last)
    return None


def _locked(failed: _Failed) -> ScriptoriumError | None:
    if failed.status != _LOCKED and "already locked" not in failed.output:
        return None
    holder = _LOCK.search(failed.output)
    return Locked(
        f"the repository is locked by {holder[1] if holder else 'another run'}",
        on=failed.name,
        hint="wait for it; if it is dead and on another host, remove its lock there: restic unlock",
    )


def _password(failed: _Failed) -> ScriptoriumError | None:
    hint = "check password_file, password_env or password_command of the store"
    if failed.status == _WRONG_PASSWORD or "wrong password or no key found" in failed.output:
        return StoreRefused("the repository does not open with this password", on=failed.name, hint=hint)
    if "esolving password failed" in failed.output or "empty password" in failed.output:
        return StoreRefused(f"the password of the repository cannot be had: {failed.last}", on=failed.name, hint=hint)
    return None


def _space(failed: _Failed) -> ScriptoriumError | None:
    if "no space left on device" in failed.output or "disk quota exceeded" in failed.output:
        return NoSpace("the repository is full", on=failed.name, hint="free some space there, or run cleanup")
    return None


def _refused(failed: _Failed) -> ScriptoriumError | None:
    """Before ``_absent``: of a key that is not known, some servers report that it does not exist."""
    if _CLOCK.search(failed.output):
        hint = "set the clock of this machine; a server refuses requests that are 15 minutes off"
        return StoreRefused("the clock of this machine is wrong, says the server", on=failed.name, hint=hint)
    if _NO_ENTRY.search(failed.output):
        hint = "check the credentials, and what they may do there"
        return StoreRefused(f"the server refuses the request: {failed.last}", on=failed.name, hint=hint)
    return None


def _absent(failed: _Failed) -> ScriptoriumError | None:
    output, name = failed.output, failed.name
    if "all target directories/files do not exist" in output:
        return StoreUnavailable(
            "what was read for the backup is gone", on=name, hint="was a disk or a share unmounted? try again"
        )
    if "no snapshot found" in output:
        return NotFound("there is no such backup", on=name)
    if failed.status == _NO_REPOSITORY or ("Is there a repository" in output and _ABSENT.search(output)):
        return NoRepository("there is no repository yet", on=name, hint="the first backup makes it")
    return None


def _kept(failed: _Failed) -> ScriptoriumError | None:
    if not (_REMOVAL.search(failed.output) and _FORBIDDEN.search(failed.output)):
        return None
    return Protected(
        "nothing may be removed from this repository",
        on=failed.name,
        hint="it is append-only, or its server keeps what is there; run cleanup where removing is allowed",
    )


def _unreadable(failed: _Failed) -> ScriptoriumError | None:
    if _NETWORK.search(failed.last):  # it read nothing wrong; it could not read
        return StoreUnavailable(
            f"the repository does not answer: {failed.last}", on=failed.name, hint="try again later"
        )
    if _DAMAGE.search(failed.output):
        return DamageFound(
            f"restic cannot read it: {failed.last}", on=failed.name, hint="use another copy of this backup"
        )
    return None


_KINDS: tuple[Callable[[_Failed], ScriptoriumError | None], ...] = (
    _ended,
    _locked,
    _password,
    _space,
    _kept,
    _refused,
    _absent,
    _unreadable,
)
