"""What an examination found: the checks of a library, the state of a database, the processes that hold it open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One rule that a library of its kind must fulfil: how many rows or files break it, and the first ones by name."""

    name: str
    good: bool
    count: int = 0
    first: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}: {self.cases()}"

    def cases(self, names: int | None = None) -> str:
        """How many there are, and the first of them. ``names`` limits how many are listed; by default, all known."""
        if not self.count:
            return "none" if self.good else "could not be checked"
        first = self.first[:names]
        more = ", …" if self.count > len(first) else ""
        return f"{self.count:,} ({', '.join(first)}{more})"


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has the living data open. ``pid`` 0: a process of another container; it has no number here."""

    pid: int
    command: str
    path: str

    def __str__(self) -> str:
        if self.pid == 0:
            return f"a process in another container has {self.path} open"
        return f"process {self.pid} ({self.command}) has {self.path} open"


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference between what is and what should be: ``verdict`` is a word of ``archive.verification.VERDICTS``."""

    verdict: str
    subject: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.verdict}: {self.subject}" + (f" ({self.detail})" if self.detail else "")


@dataclass(frozen=True, slots=True)
class Health:
    """What the examination of a living database found.

    ``properties``: what was looked at, in words; ``findings``: what is wrong, worst first.
    """

    properties: Mapping[str, str]
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        return not self.findings
