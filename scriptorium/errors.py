"""Every error that Scriptorium raises on purpose.

    ScriptoriumError                    what failed, on what, what to do next
    ├── TransientError                  may succeed when tried again; the only kind that is retried
    │   ├── SnapshotBusy                the database never held still for as long as the copy takes
    │   ├── SourceUnavailable           a server or mount that should be there does not answer
    │   ├── StoreUnavailable            a store does not answer, or the connection broke
    │   └── ToolStalled                 a child process made no progress and was ended
    └── PermanentError                  trying again changes nothing
        ├── UsageError                  wrong arguments                                  exit 2
        │   └── SettingsError           wrong settings file or environment               exit 2
        ├── DamageFound                 a copy is not what its manifest says             exit 3
        ├── LibraryBusy                 another run, or the application, holds it        exit 4
        ├── NotFound                    no such backup, store, library                   exit 5
        ├── ToolMissing                 a needed program or driver is missing, too old   exit 6
        ├── NoSpace                     not enough space                                 exit 7
        ├── ToolFailed                  a child process ended with an error
        ├── SourceDamaged               the living data cannot be read as what it should be
        ├── StoreRefused                a store does not let us in, or is not set up: wrong key, no bucket
        ├── KeyMissing                  a copy is encrypted, and the key that opens it is not here
        ├── Protected                   a pinned, used or locked backup is not removed
        ├── UnsafeArchive               an archive member would leave its target
        ├── Untrusted                   a file or folder belongs to a user who must not influence this
        └── RestoreFailed               a restore failed; the previous data is in place

The first fork decides about retries: a task retries transient errors and nothing
else. ``LibraryBusy`` is permanent for a task: waiting for another run is the scheduler's work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scriptorium.wording import legible


class ScriptoriumError(Exception):
    """What failed, on what, and what to do next.

    ``what`` is one line for a person; ``on`` names the thing (a path, a library, a host);
    ``hint`` is one line of what to do next. None of them may contain a secret. All may contain names: ``str`` makes
    names legible (for terminals, logs and the states of runs), ``exact`` keeps them unchanged (for JSON).
    """

    exit_code = 1

    def __init__(self, what: str, *, on: str = "", hint: str = "") -> None:
        super().__init__(what, on, hint)  # all three, so that the error survives pickling
        self.what = what
        self.on = on
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.on, self.hint, self._more()))

    def _more(self) -> dict[str, Any]:
        """What only this kind of error has."""
        return {}

    @property
    def exact(self) -> str:
        return f"{self.what}: {self.on}" if self.on else self.what

    def __str__(self) -> str:
        return legible(self.exact)


def _rebuild(kind: type[ScriptoriumError], what: str, on: str, hint: str, more: dict[str, Any]) -> ScriptoriumError:
    return kind(what, on=on, hint=hint, **more)


class TransientError(ScriptoriumError):
    """May succeed when tried again."""


class SnapshotBusy(TransientError):
    """The database never held still for as long as the copy takes."""


class SourceUnavailable(TransientError):
    """A server or mount that should be there does not answer."""


class StoreUnavailable(TransientError):
    """A store does not answer, or the connection to it broke."""


class ToolStalled(TransientError):
    """A child process made no progress and was ended."""


class PermanentError(ScriptoriumError):
    """Trying again changes nothing."""


class UsageError(PermanentError):
    """Wrong arguments."""

    exit_code = 2


class SettingsError(UsageError):
    """The settings file, or a variable that overrides it, is wrong."""


class DamageFound(PermanentError):
    """A copy is not what its manifest says. ``findings``: the differences, one by one; they are the hint where no other
    is given."""

    exit_code = 3

    def __init__(self, what: str, *, on: str = "", hint: str = "", findings: Sequence[str] = ()) -> None:
        super().__init__(what, on=on, hint=hint or "; ".join(findings))
        self.findings = tuple(findings)

    def _more(self) -> dict[str, Any]:
        return {"findings": self.findings}


class LibraryBusy(PermanentError):
    """Another run, or the application itself, holds what this run needs."""

    exit_code = 4


class NotFound(PermanentError):
    """No such backup, store or library."""

    exit_code = 5


class ToolMissing(PermanentError):
    """A needed program, driver or engine version is missing or too old."""

    exit_code = 6


class NoSpace(PermanentError):
    """Not enough space: says what is needed, what is there, and where."""

    exit_code = 7


class ToolFailed(PermanentError):
    """A child process ended with an error. ``status``: its exit status (negative: ended by that signal); ``None`` if
    it ended well, or its status is not known."""

    def __init__(self, what: str, *, on: str = "", hint: str = "", status: int | None = None) -> None:
        super().__init__(what, on=on, hint=hint)
        self.status = status

    def _more(self) -> dict[str, Any]:
        return {"status": self.status}

    @property
    def by_signal(self) -> bool:
        """Whether a signal ended it, from a user or from the system when memory was short: its data may be sound."""
        return self.status is not None and self.status < 0


class SourceDamaged(PermanentError):
    """The living data cannot be read as what it should be."""


class StoreRefused(PermanentError):
    """A store does not let us in, or is not set up: a wrong key, no bucket, a missing permission. The other stores go
    on without it, as without one that does not answer."""


class KeyMissing(PermanentError):
    """A copy is encrypted, and the key that opens it is not here. It says nothing about the copy."""


class Protected(PermanentError):
    """A backup that is pinned, that something is reading, or that its store locks, is not removed."""


class UnsafeArchive(PermanentError):
    """An archive member would be written outside its target, or is of a kind we never create."""

    exit_code = 3


class Untrusted(PermanentError):
    """A file, folder or link belongs to a user who must not influence what we do."""


class RestoreFailed(PermanentError):
    """A restore failed; the previous data is in place again."""


STORE_TROUBLE = (StoreUnavailable, StoreRefused)  # a store that is of no use now; the others are
