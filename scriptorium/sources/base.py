"""The protocol that every source implements: backup (survey, capture, examine) and restore (incoming).

A source is a frozen pydantic model: its fields are its configuration, its methods do the work. Heavy
drivers are imported inside methods. ``tests/contracts/test_sources.py`` runs one suite on every member.

Abilities of only some kinds are protocols in ``optional.py``. ``abilities.py`` is the one place that asks whether a
source implements one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from scriptorium.model import Holder, Part, Rows, Staged, Survey, TableFingerprint
from scriptorium.sources.options import AS_CONFIGURED, RestoreOptions
from scriptorium.words import Role


class Incoming(Protocol):
    """One part that is being restored: prepared beside the living data, then switched in by a rename.

    ``receive`` maps a path in the archive to where it is unpacked, or ``None`` for members that this part does
    not want (a logical export when the raw copy is restored). Every method may be called again after a crash:
    an ``Incoming`` that is built anew from the same source, part and restore id finds what the previous one left.
    """

    @property
    def answers(self) -> Mapping[str, Rows]:
        """What the loaded database answered to the source's statements; nothing for files, and before ``load``."""
        ...

    def prepare(self) -> None:
        """Make the empty staging place, on the filesystem of the living data. Earlier leftovers are removed."""
        ...

    def receive(self, member: str) -> Path | None:
        """Where the archive member is to be written (inside the staging place), or ``None``."""
        ...

    def load(self) -> Mapping[str, TableFingerprint] | None:
        """Load what was unpacked and return what it holds, for the comparison with the manifest."""
        ...

    def switch(self) -> None:
        """Put the staged data in the living place; the previous data is kept."""
        ...

    def undo(self) -> None:
        """Put the previous data back, whatever point ``switch`` reached. Does nothing if it never began."""
        ...

    def finish(self) -> None:
        """The switch is final: remove the previous data and the staging place."""
        ...


class Source(Protocol):
    """One part of a library that is saved: a database or a tree of files."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def role(self) -> Role: ...

    @property
    def place(self) -> str:
        """The path of its part in the archive; no two sources of a library share one."""
        ...

    def survey(self, never: tuple[Path, ...]) -> Survey:
        """How much there is, quickly (without reading contents). Raises ``SourceUnavailable`` or ``NotFound``."""
        ...

    def capture(self, stage: Path) -> None:
        """Bring a consistent image of the source into the empty folder ``stage``.

        A source that is read in place only checks that it exists. Raises ``SnapshotBusy`` when no consistent
        image could be taken; ``stage`` is then empty again.
        """
        ...

    def examine(self, stage: Path, never: tuple[Path, ...]) -> Staged:
        """Open the image, take its row counts and fingerprints, add exports; returns what is to be packed.

        ``never``: absolute paths that must not be packed (the stores and the workspace).
        """
        ...

    def holders(self) -> Iterator[Holder]:
        """Processes that have the living data open: files below it, or a session with its database."""
        ...

    def incoming(
        self,
        part: Part,
        restore_id: str,
        *,
        into: Path | None = None,
        options: RestoreOptions = AS_CONFIGURED,
        partial: bool = False,
        never: tuple[Path, ...] = (),
    ) -> Incoming:
        """The restore of the part: in place, or ``into`` a folder, with the layout of the archive.

        ``partial``: only some of the part's files are restored, and the others stay as they are (a database is always
        restored whole). ``never``: absolute paths in the living place that the source must not replace (the stores,
        other databases).
        """
        ...

    def preconditions(self, part: Part, options: RestoreOptions = AS_CONFIGURED) -> Mapping[str, Callable[[], str]]:
        """What a restore of the part in place needs (an engine, a server, rights), by name: each returns what it
        found, or raises the obstacle. Quick, and changes nothing."""
        ...

    def journal_record(self, options: RestoreOptions = AS_CONFIGURED) -> Mapping[str, bool | str]:
        """Where it is and how it is restored in place, for the journal: an undo must use the same way, even if
        the settings have changed. It contains no secret."""
        ...

    def as_recorded(self, record: Mapping[str, bool | str]) -> Source:
        """The same source as a ``journal_record`` has it, whatever its settings say now."""
        ...
