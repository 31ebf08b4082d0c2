"""What an operation came to: frozen records that ``report`` renders for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, Self

from scriptorium.errors import DamageFound, ScriptoriumError, StoreUnavailable
from scriptorium.model import Backup, Copy, Manifest, Proof, TableFingerprint, Unset, Verification
from scriptorium.retention import Decision


@dataclass(frozen=True, slots=True)
class Problem:
    """A store that could not be read while listing."""

    store: str
    error: str


@dataclass(frozen=True, slots=True)
class Listing:
    """``backups``, newest first; ``problems``: the stores that could not be read."""

    backups: list[Backup]
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class LastDrill:
    """The last drill of a library, whatever its verdict; ``seconds``: what the restore took."""

    at: datetime
    backup: str
    store: str
    verdict: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """How well a library is protected, in figures. ``types``: backups by type; ``unrecorded``: those whose databases
    have no fingerprints. Times are ``None`` if there is no such backup."""

    backups: int
    bytes: int
    oldest: datetime | None
    newest: datetime | None
    types: Mapping[str, int]
    last_success: datetime | None
    last_proof: datetime | None
    last_drill: LastDrill | None
    unrecorded: int
    degraded: int
    damaged: int


@dataclass(frozen=True, slots=True)
class Usage:
    """How full a store is, in bytes, as far as that is known. ``error``: why it could not be asked."""

    kind: str
    used: int | None
    free: int | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Statistics:
    """The figures of all chosen libraries together, of each one, and of each store."""

    together: Figures
    by_library: Mapping[str, Figures]
    storage: Mapping[str, Usage]


@dataclass(frozen=True, slots=True)
class BackupResult:
    """A backup that was taken. ``failed``: the stores that have no copy of it, and why; ``seconds``: what it took.
    ``completed``: copies of earlier backups that their runs could not make, and this one did; ``uncompleted``: those
    that still could not be made, and why."""

    backup: Backup
    manifest: Manifest
    failed: Mapping[str, ScriptoriumError]
    seconds: float
    completed: tuple[Copied, ...] = ()
    uncompleted: Mapping[str, ScriptoriumError] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DrillResult:
    """A backup that was drilled, and what came out. A difference is a result and no error."""

    backup: Backup
    proof: Proof


@dataclass(frozen=True, slots=True)
class Checked:
    """A copy and what reading it back showed. ``share`` (``N/T``): only this share of its contents was read.
    ``lock``: until when its store locks it, where it does."""

    backup: Backup
    copy: Copy
    verification: Verification
    share: str = ""
    lock: str = ""

    @property
    def verdict(self) -> str:
        """The verdict on a sound copy. It states only what was read."""
        if self.verification.unopened:
            return "sound as far as can be seen without its key"
        return f"sound in share {self.share}" if self.share else "sound"

    @property
    def locked(self) -> str:
        """What is said of its lock, behind the verdict."""
        return f"; locked {self.lock}" if self.lock else ""


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """The copies that were read, and those that could not be read (``BACKUP in STORE``), with the reason."""

    checked: tuple[Checked, ...]
    unread: Mapping[str, ScriptoriumError]

    @property
    def damaged(self) -> tuple[Checked, ...]:
        return tuple(one for one in self.checked if not one.verification.sound)

    def require_every_copy_read(self) -> Self:
        """Raise an error if a copy could not be read. Damage is a result, not an error."""
        if not self.unread:
            return self
        first = next(iter(self.unread.values()))
        if len(self.unread) == 1 and not self.checked:
            raise first
        damaged = ", ".join(one.backup.id for one in self.damaged)
        others = f"damaged among the others: {damaged}" if damaged else "the others are sound"
        raise StoreUnavailable(
            f"{len(self.unread)} of {len(self.unread) + len(self.checked)} copies could not be read; {others}",
            on="; ".join(f"{copy}: {error}" for copy, error in self.unread.items()),
            hint=first.hint,
        )


@dataclass(frozen=True, slots=True)
class Copied:
    """A backup that has a new copy. ``source``: the store that it came from; ``unchanged``: its bytes are the same
    there; ``finished``: it was there, and only had to be read back."""

    backup: Backup
    copy: Copy
    source: str
    seconds: float
    unchanged: bool = False
    finished: bool = False


@dataclass(frozen=True, slots=True)
class PlannedCopy:
    """A copy that is to be made. ``sources``: the copies to read, best first; ``replaced``: a damaged copy there;
    ``unread``: a copy there that was never read back, which is all that is left to do; ``outdated``: a copy there that
    is encrypted for others, and goes when the new one is there."""

    backup: Backup
    sources: tuple[Copy, ...]
    to: str
    replaced: Copy | None = None
    unread: Copy | None = None
    outdated: Copy | None = None

    @property
    def bytes(self) -> int:
        return (self.unread or self.sources[0]).bytes

    def __str__(self) -> str:
        return f"{self.backup.id} in {self.to}"


@dataclass(frozen=True, slots=True)
class CopyResult:
    """What was copied, what would be (``dry_run``), what was there already. ``failed``: by ``BACKUP in STORE``, or by
    the name of a store that does not answer."""

    planned: tuple[PlannedCopy, ...]
    copied: tuple[Copied, ...]
    present: tuple[tuple[Backup, str], ...]
    failed: Mapping[str, ScriptoriumError]
    dry_run: bool = False

    def require_every_copy(self) -> Self:
        """Raise an error if a copy could not be made; damage comes before other errors."""
        if not self.failed:
            return self
        errors = list(self.failed.values())
        first = next((one for one in errors if isinstance(one, DamageFound)), errors[0])
        if len(errors) == 1 and not self.copied:
            raise first
        raise type(first)(
            f"{len(errors)} of {len(errors) + len(self.copied)} could not be copied; {len(self.copied)} are copied",
            on="; ".join(f"{what}: {error}" for what, error in self.failed.items()),
            hint=first.hint,
        )


@dataclass(frozen=True, slots=True)
class PruneResult:
    """What retention decided. ``removed``: ids of backups; ``swept``: keys of files that crashes had left;
    ``unreclaimed``: the stores that still hold the space of what was removed, and why."""

    decisions: tuple[Decision, ...]
    removed: tuple[str, ...]
    swept: tuple[str, ...]
    dry_run: bool
    unreclaimed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Adopted:
    """A file and the backup made of it; ``already``: it was adopted before. ``warnings``: how far it can be trusted."""

    file: Path
    backup: Backup
    warnings: tuple[str, ...]
    already: bool = False


@dataclass(frozen=True, slots=True)
class AdoptOutcome:
    """The result for one file of several."""

    file: Path
    adopted: Adopted | None = None
    error: ScriptoriumError | None = None


@dataclass(frozen=True, slots=True)
class ExportedTable:
    """One file of an export: its table, its path, its number of rows and bytes."""

    source: str
    table: str
    path: str
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What an export wrote. ``without_rows``: objects whose rows are in no archive (sequences, views, large
    objects)."""

    backup: str
    name: str
    library: str
    format: str
    output: str
    tables: tuple[ExportedTable, ...]
    without_rows: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        return sum(one.rows for one in self.tables)

    @property
    def bytes(self) -> int:
        return sum(one.bytes for one in self.tables)


@dataclass(frozen=True, slots=True)
class Comparison:
    """``equal``: number of tables with the recorded rows and fingerprint. ``not_compared``: what could not be compared,
    and why. ``waiting``: sources whose dump was unpacked but not loaded, with the program that loads it."""

    equal: int = 0
    not_compared: Mapping[str, str] = field(default_factory=dict)
    waiting: Mapping[str, str] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """One line for people. It states only what was compared."""
        words = [f"{self.equal}, rows and fingerprints equal to the snapshot's"] if self.equal else []
        if self.not_compared:
            reasons = "; ".join(dict.fromkeys(self.not_compared.values()))
            names = ", ".join(list(self.not_compared)[:5]) + (", …" if len(self.not_compared) > 5 else "")
            words.append(f"{len(self.not_compared)} not compared ({names}: {reasons})")
        words += [
            f"the dump of {source} is not loaded: it waits for {program}" for source, program in self.waiting.items()
        ]
        return "; ".join(words) or "none"


@dataclass(frozen=True, slots=True)
class Restored:
    """The result of a restore; every file has its recorded hash.

    ``parts``: the sources of which something was restored; ``tables``: the fingerprints of their databases;
    ``warnings``: properties and objects that could not be restored, by name. ``comparison``: which of the tables were
    compared with the record. ``previous``: whether the previous data is kept. ``lacking``: what the backup, or the
    safety backup, does not contain because it could not be read when it was taken. ``unset``: owners and attributes
    that could not be set, links that could not be made.
    """

    place: str
    files: int
    bytes: int
    tables: Mapping[str, TableFingerprint]
    parts: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    comparison: Comparison = field(default_factory=Comparison)
    previous: Literal["none was there", "kept", "not kept"] = "none was there"
    lacking: tuple[str, ...] = ()
    unset: tuple[Unset, ...] = ()

    @property
    def summary(self) -> str:
        """One line about its tables, for people."""
        return self.comparison.summary


@dataclass(frozen=True, slots=True)
class PreflightRow:
    """One check of a preflight: what was checked, what was found, and the error that prevents the restore, if any."""

    what: str
    found: str
    trouble: ScriptoriumError | None = None


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """A backup that was restored. ``preflight``: what was looked at before; ``safety``: the safety backup, where one
    was taken, and ``safety_lacks`` what it could not save; ``seconds``: what it all took; ``in_place``: living data
    was replaced."""

    backup: str
    library: str
    store: str
    preflight: tuple[PreflightRow, ...]
    restored: Restored
    safety: Backup | None
    safety_lacks: tuple[str, ...]
    seconds: float
    in_place: bool = False


NOTHING_COMPARED = "an earlier version began it, so what is there now was compared with nothing: look at it yourself"


@dataclass(frozen=True, slots=True)
class UndoResult:
    """A restore that was undone: of the backup ``undone``. The safety backup as in ``RestoreResult``. ``compared``:
    what is there now, with what was there before. ``cut_short``: the restore had been ended in the middle."""

    library: str
    undone: str
    safety: Backup | None
    safety_lacks: tuple[str, ...]
    compared: bool = True
    cut_short: bool = False


@dataclass(frozen=True, slots=True)
class StoreState:
    """A store now. ``newest``: when its newest backup was taken; ``error``: why it is of no use."""

    name: str
    kind: str
    features: Mapping[str, bool]
    used: int | None = None
    free: int | None = None
    backups: int = 0
    newest: datetime | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class StoreFinding:
    """One thing that was looked at in a store. ``good``: ``None`` where it is neither good nor bad."""

    store: str
    what: str
    found: str
    good: bool | None = True
    hint: str = ""
