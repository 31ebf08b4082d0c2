"""The protocol that every source meets: out (survey, capture, examine) and back (incoming).

A source is a frozen pydantic model: its fields are its configuration, its methods do the work. Heavy
drivers are imported inside methods. ``tests/contracts/test_sources.py`` runs one suite on every member.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from scriptorium.fs.in_use import Look
from scriptorium.model import Finding, Holder, Part, Role, Rows, Staged, Survey, TableFingerprint
from scriptorium.sources.quiesce import Quiesce

if TYPE_CHECKING:
    from scriptorium.members import Stream


class Incoming(Protocol):
    """One part on its way back: made ready beside the living data, then switched in by a rename.

    ``receive`` maps a path in the archive to where it is unpacked, or ``None`` for members that this part does
    not want (a logical export when the raw copy is restored). Every method may be called again after a crash:
    an ``Incoming`` built anew from the same source, part and restore id finds what the former one left.
    """

    @property
    def answers(self) -> Mapping[str, Rows]:
        """What the loaded database said to the source's statements; nothing for files, and before ``load``."""
        ...

    def prepare(self) -> None:
        """Make the empty staging place, on the filesystem of the living data. Former leavings are removed."""
        ...

    def receive(self, member: str) -> Path | None:
        """Where the archive member is to be written (inside the staging place), or ``None``."""
        ...

    def load(self) -> Mapping[str, TableFingerprint] | None:
        """Make what was unpacked usable and return what it holds, for the comparison with the manifest."""
        ...

    def switch(self) -> None:
        """Put the staged data in the living place; the former data is kept."""
        ...

    def undo(self) -> None:
        """Put the former data back, from whatever point ``switch`` reached. Does nothing when it never began."""
        ...

    def finish(self) -> None:
        """The switch stands: drop the former data and the staging place."""
        ...


@runtime_checkable
class Reticent(Protocol):
    """An ``Incoming`` whose facts may be missing in part although it came back: see ``Part.missing_fingerprints``."""

    @property
    def missing_fingerprints(self) -> Mapping[str, str]:
        """What ``load`` could not take facts of, and why; nothing before it."""
        ...


@runtime_checkable
class Remaking(Protocol):
    """An ``Incoming`` in which something is made anew from what was saved, and may come out otherwise."""

    @property
    def made_anew(self) -> Mapping[str, str]:
        """What came out otherwise, and why that is no damage; nothing before ``load``."""
        ...


@runtime_checkable
class Telling(Protocol):
    """An ``Incoming`` that may leave out what cannot be made as it was."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is left out so far, by name, with what to do about it."""
        ...


@runtime_checkable
class Exclusive(Protocol):
    """A source that is lost when it is replaced under its application, whichever way that has it open."""

    def in_use(self) -> Look:
        """Whether anybody has it open for writing, in whatever container. Changes nothing; takes a moment."""
        ...


@runtime_checkable
class Checkable(Protocol):
    """An ``Incoming`` whose database can say more of itself than its facts: what ``database check`` looks at."""

    def check(self) -> tuple[Finding, ...]:
        """What is wrong with it, once it is loaded; nothing when it is sound."""
        ...


class Source(Protocol):
    """One thing of a library that is worth saving."""

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

    @property
    def quiesce(self) -> Quiesce | None:
        """How its application is made to stand still when there is no other way; most sources have none."""
        ...

    def survey(self, never: tuple[Path, ...]) -> Survey:
        """How much there is, cheaply (no reading of contents). Raises ``SourceUnavailable`` or ``NotFound``."""
        ...

    def capture(self, stage: Path, *, paused: bool = False) -> None:
        """Bring a consistent image of the source into the empty folder ``stage``.

        ``paused`` says that the application is standing still for the duration of this call, so it must be
        short and must not wait. A source that is read where it lies does nothing here. Raises ``SnapshotBusy``
        when there was no consistent moment; ``stage`` is then empty again.
        """
        ...

    def examine(self, stage: Path, never: tuple[Path, ...]) -> Staged:
        """Open the image, take its facts (row counts, fingerprints), add exports; say what is to be packed.

        ``never``: absolute paths that must not be packed (the stores and the workspace).
        """
        ...

    def holders(self) -> Iterator[Holder]:
        """Processes that hold the living data open, so that it must not be replaced under them."""
        ...

    def incoming(
        self,
        part: Part,
        restore_id: str,
        *,
        into: Path | None = None,
        rebuild: bool = False,
        partial: bool = False,
        never: tuple[Path, ...] = (),
    ) -> Incoming:
        """The way back: in place, or ``into`` a folder as the archive has it.

        ``rebuild``: make the database from its logical export instead of the raw copy. ``partial``: only some of the
        part's files come back, and what does not come stays as it is (a database always comes whole). ``never``:
        absolute paths in the living place that are not the source's to replace (the stores, other databases).
        """
        ...

    def preconditions(self, part: Part, *, rebuild: bool = False) -> Mapping[str, Callable[[], str]]:
        """What a restore of the part in place needs (an engine, a server, rights), by name: each says what it found,
        or raises what stands in the way. Cheap, and changes nothing. ``rebuild``: from its logical export."""
        ...

    def working_in(self, scratch: Path) -> Source:
        """The same source, its restores unpacked in this folder of ours where they are not made beside the living data,
        and the settings name no other. It outlives a restart of the machine: the way back may lie in it."""
        ...

    def adapted(
        self, *, clean: bool = False, without_roles: bool = False, without_broken_constraints: bool = False
    ) -> Source:
        """The same source with the user's word on how it is restored in place: ``clean`` into the living database, in
        one transaction; ``without_roles`` although roles or tablespaces are missing; ``without_broken_constraints``
        although rows break constraints, which are left out. Others are as they are."""
        ...

    @property
    def way(self) -> Mapping[str, bool | str]:
        """Where it is and how it would be restored in place, for the journal: whoever goes back must come by the same
        way, whatever the settings say then. No secret is in it."""
        ...

    def by(self, way: Mapping[str, bool | str]) -> Source:
        """The same source with the ``way`` that a restore went, whatever its settings say now."""
        ...

    def tidy(self) -> tuple[str, ...]:
        """Remove what restores and drills left behind and the settings do not keep; the library's lock must be held.
        Returns the names."""
        ...

    def renamed(self, name: str) -> Source | None:
        """The same source, restored under another name beside the living one; ``None`` where that means nothing."""
        ...

    def rehearsal(self, part: Part, drill_id: str, scratch: Path) -> Incoming:
        """The way back for a drill: into the folder ``scratch``, or beside the living database under another name.

        It is prepared, received, loaded and then undone; never switched.
        """
        ...


@runtime_checkable
class Streamable(Protocol):
    """A source that can be read straight into an archive; its survey says when it wants to be."""

    def stream(self, stage: Path) -> AbstractContextManager[Stream]:
        """Take the snapshot and begin to read it; it lasts as long as the block. ``stage``: an empty folder for small
        files. Raises what ``capture`` raises, then or while its pieces are read; nothing stays behind."""
        ...
