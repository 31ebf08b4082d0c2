"""What only some sources, or parts that are restored, can do: one protocol for each ability.

``abilities.py`` is the one place that asks whether an object implements one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from scriptorium.model import Finding, Health, Part, Staged, Tree
from scriptorium.progress import Advance
from scriptorium.sources.base import Incoming, Source

if TYPE_CHECKING:
    from scriptorium.fs.in_use import Look
    from scriptorium.members import Stream
    from scriptorium.sources.quiesce import Quiesce
    from scriptorium.sources.tables import Origin, Wanted


@runtime_checkable
class PartlyRead(Protocol):
    """An ``Incoming`` that may lack some fingerprints although it was restored; see ``Part``."""

    @property
    def missing_fingerprints(self) -> Mapping[str, str]:
        """The tables of which ``load`` could take no fingerprint, and why; empty before it."""
        ...


@runtime_checkable
class Remaking(Protocol):
    """An ``Incoming`` that makes something new from what was saved, with a result that may differ."""

    @property
    def rebuilt_views(self) -> Mapping[str, str]:
        """What differs, and why that is no damage; empty before ``load``."""
        ...


@runtime_checkable
class LeavingOut(Protocol):
    """An ``Incoming`` that may leave out what cannot be restored as it was."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is left out so far, by name, with what to do about it."""
        ...


@runtime_checkable
class Checkable(Protocol):
    """An ``Incoming`` whose database can be checked beyond its fingerprints: see ``database check``."""

    def check(self) -> tuple[Finding, ...]:
        """What is wrong with it, once it is loaded; nothing when it is sound."""
        ...


@runtime_checkable
class Waiting(Protocol):
    """An ``Incoming`` that restores a database as the files of its dump, which somebody loads later."""

    @property
    def loader(self) -> str:
        """The program that loads them."""
        ...


@runtime_checkable
class OnDisk(Protocol):
    """A source whose living data are files at a place of their own."""

    def tree(self, never: tuple[Path, ...] = ()) -> Tree:
        """Where they are, and which of them are saved."""
        ...


@runtime_checkable
class Claiming(Protocol):
    """A source whose files belong to it alone: a tree of files that holds them neither saves nor replaces them."""

    def claims(self) -> tuple[Path, ...]:
        """These files, whether they are there or not."""
        ...


@runtime_checkable
class Exclusive(Protocol):
    """A source that is lost when it is replaced while its application has it open."""

    def in_use(self) -> Look:
        """Whether anybody has it open for writing, in any container. Changes nothing; takes a short time."""
        ...


@runtime_checkable
class Pausable(Protocol):
    """A source whose application can be paused for a copy, where there is no other way to take one."""

    @property
    def quiesce(self) -> Quiesce | None:
        """How to pause it; ``None`` where the settings allow no pause."""
        ...

    def capture_paused(self, stage: Path) -> None:
        """As ``capture``, while the application is paused: it must be short and must not wait."""
        ...


@runtime_checkable
class Streamable(Protocol):
    """A source that can be read straight into an archive; its survey says when it has to be."""

    def stream(self, stage: Path) -> AbstractContextManager[Stream]:
        """Take the snapshot and begin to read it; it lasts as long as the block. ``stage``: an empty folder for small
        files. Raises the errors of ``capture``, at once or while its pieces are read; nothing is left over."""
        ...


@runtime_checkable
class NeedsScratch(Protocol):
    """A source whose restores are unpacked in a folder of ours, because its living data is not files."""

    def with_scratch(self, scratch: Path) -> Source:
        """The same source with this folder, unless its settings name another. The folder outlives a restart of the
        machine: what an undo needs may lie in it."""
        ...


@runtime_checkable
class Renamable(Protocol):
    """A source that can be restored under another name, beside the living one."""

    def renamed(self, name: str) -> Source:
        """The same source, restored under that name."""
        ...


@runtime_checkable
class Rehearsable(Protocol):
    """A source that cannot be drilled by a restore into a folder."""

    def rehearsal(self, part: Part, drill_id: str, scratch: Path) -> Incoming:
        """What restores it for a drill, beside the living database under another name. It is prepared, received, loaded
        and then undone; never switched. ``scratch``: a folder for what is unpacked."""
        ...


@runtime_checkable
class Dumpable(Protocol):
    """A source that can be written to one file and loaded from one: the work of the command ``database``."""

    @property
    def name(self) -> str: ...

    def address(self) -> object:
        """Where it is; its text form is for people and has no secret."""
        ...

    def dump_to(self, file: Path, *, format: str = "custom", compress: int = 6, advance: Advance | None = None) -> int:
        """Write it to one file; returns the file's bytes. ``advance`` gets the bytes written so far."""
        ...

    def load_from(
        self,
        file: Path,
        *,
        clean: bool = False,
        without_broken: bool = False,
        trusted: bool = False,
        advance: Advance | None = None,
    ) -> tuple[str, ...]:
        """Load it from one file, in one transaction. ``clean``: in place of what is there. ``without_broken``:
        constraints that do not hold are left out. ``trusted``: the file may hold statements that reach the server's
        machine. Returns what is not as the file has it."""
        ...

    def health(self, files: Path | None = None) -> Health:
        """Whether it is sound. ``files``: the folder of the library's files, with which its rows are compared."""
        ...


@runtime_checkable
class Tabular(Protocol):
    """A database whose tables can be read from an archive without restoring it: the work of ``export``."""

    def tables_in(self, part: Part, wanted: Sequence[Wanted], folder: Path) -> Origin:
        """The wanted tables of its part; ``folder``: an empty one for what is read from the archive."""
        ...

    def steps(self, table: str) -> tuple[str, ...]:
        """The name of a table in a manifest as its plain steps: schema and table, where there are schemas."""
        ...


@runtime_checkable
class FileTree(Protocol):
    """A source that is a tree of files; patterns choose which are saved."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def place(self) -> str: ...

    @property
    def include(self) -> tuple[str, ...]: ...

    @property
    def exclude(self) -> tuple[str, ...]: ...


class Adoptable(Protocol):
    """A database that was taken out of the backup of another program."""

    def size(self) -> int:
        """Its bytes."""
        ...

    def staged(self, stage: Path, home: Path, taken: set[str], created_at: datetime, method: str) -> Staged:
        """The database as a part: opened if possible, else its files unchanged, with a warning. ``NoSpace``.

        ``stage``: a folder for the copy that is opened, with space; ``home``: the rest of the backup, laid out as
        archives are; ``taken``: the paths of the other parts.
        """
        ...


@runtime_checkable
class Adopting(Protocol):
    """A source whose database can be taken out of the backup of another program."""

    def take_out(self, raw: Path, place: Path) -> Adoptable | None:
        """Move it from the unpacked files ``raw`` into the new folder ``place``; ``None``: there is none."""
        ...


@dataclass(frozen=True, slots=True)
class ForeignDump:
    """What a dump records about itself: ISO local time, versions, and the name of its file here; ``""`` if it is not
    recorded. ``warnings``: how far it was read."""

    taken: str
    name: str
    server: str
    program: str
    format: str = ""
    ending: str = ""
    warnings: tuple[str, ...] = ()


@runtime_checkable
class TakesDumps(Protocol):
    """A source that loads dumps which other programs made."""

    def read_foreign(self, file: Path, called: str, *, script: bool, trusted: bool) -> ForeignDump:
        """Read one to its end and look through it. ``called``: its name if the dump records none; ``script``: it is
        SQL. ``DamageFound``, ``UnsafeArchive``."""
        ...

    def examine_unpacked(self, folder: Path, at: str) -> None:
        """Look through the dump in the folder of a part at that path of an archive. ``UnsafeArchive``."""
        ...


@runtime_checkable
class Tidyable(Protocol):
    """A source whose restores leave something outside our own folders."""

    def tidy(self) -> tuple[str, ...]:
        """Remove what restores and drills left behind and the settings do not keep; the library's lock must be held.
        Returns the names."""
        ...
