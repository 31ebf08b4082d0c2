"""A tree of files, read in place.

A tree of files has no snapshot: each file is read once, at its own time. The backup's warnings name every file that
changes or vanishes while it is read. The files of a database must be a source of their own.
"""

from __future__ import annotations

import logging
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, field_validator

from scriptorium.errors import NotFound, SourceUnavailable, UsageError
from scriptorium.fs.open_files import holders_of
from scriptorium.fs.permissions import may_write
from scriptorium.fs.system_errors import advice, reason_of
from scriptorium.limits import Pattern, SourceName
from scriptorium.model import Holder, Part, Staged, Survey, Tree
from scriptorium.sources.options import AS_CONFIGURED, RestoreOptions
from scriptorium.words import Role

if TYPE_CHECKING:  # imported where it is used: every `list` reads the settings, and must start quickly
    from scriptorium.sources.files.restore import FilesElsewhere, FilesIncoming

log = logging.getLogger(__name__)


class FilesSource(BaseModel):
    """``path``: a folder (or one file). ``at``: its path in the archive, by default the source's name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["files"] = "files"
    name: SourceName = "files"
    path: Path
    at: str | None = None
    role: Role = Role.FILES
    include: tuple[Pattern, ...] = ()
    exclude: tuple[Pattern, ...] = ()

    @field_validator("include", "exclude")
    @classmethod
    def _sets_can_match(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        if any("[" in one for one in patterns):
            from scriptorium.members.patterns import compiled

            try:
                compiled(*patterns)
            except UsageError as error:
                raise ValueError(f"{error.what}; {error.hint}") from None
        return patterns

    @property
    def place(self) -> str:
        """The path of the tree in the archive."""
        return self.name if self.at is None else self.at

    def tree(self, never: tuple[Path, ...] = ()) -> Tree:
        return Tree(
            root=str(self.path),
            at=self.place,
            include=self.include,
            exclude=self.exclude,
            never=tuple(str(path) for path in never),
        )

    def survey(self, never: tuple[Path, ...]) -> Survey:
        from scriptorium.members import survey

        self._require()
        began = time.monotonic()
        found = survey([self.tree(never)])
        took = time.monotonic() - began
        log.info("%s: %d files, %d bytes, counted in %.1f s", self.name, found.files, found.bytes, took)
        return found

    def _require(self) -> None:
        """The path must be a folder or a file, or a symlink to one. Anything else is a mistake in the settings, or a
        mount that failed: then a backup of nothing must not look like a good one."""
        from scriptorium.members.selection import odd_kind

        hint = f"see 'path' of the source {self.name}"
        try:
            mode = self.path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound("the folder does not exist", on=str(self.path), hint=hint) from None
        except OSError as error:
            raise SourceUnavailable(
                f"it cannot be read: {reason_of(error)}", on=str(self.path), hint=advice(error, self.path) or hint
            ) from None
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise UsageError(f"what is to be saved is {odd_kind(mode)}", on=str(self.path), hint=hint)
        if stat.S_ISREG(mode) and (self.include or self.exclude):
            raise UsageError(
                "what is to be saved is a file, and patterns are given for what is in it", on=str(self.path), hint=hint
            )

    def capture(self, stage: Path) -> None:
        """Files are read in place; here they are only checked to exist."""
        self._require()

    def examine(self, stage: Path, never: tuple[Path, ...]) -> Staged:
        now = datetime.now(UTC)
        return Staged(
            source=self.name,
            kind=self.kind,
            path=self.place,
            method="read in place, with attributes and access lists",
            started_at=now,
            finished_at=now,
            trees=(self.tree(never),),
        )

    def holders(self) -> Iterator[Holder]:
        """Processes that have files open; they do not prevent a switch by rename."""
        yield from holders_of([self.path])

    def incoming(
        self,
        part: Part,
        restore_id: str,
        *,
        into: Path | None = None,
        options: RestoreOptions = AS_CONFIGURED,
        partial: bool = False,
        never: tuple[Path, ...] = (),
    ) -> FilesIncoming | FilesElsewhere:
        from scriptorium.sources.files.restore import FilesElsewhere, FilesIncoming

        if into is not None:
            return FilesElsewhere(part, into)
        less = partial or part.provenance.adopted
        return FilesIncoming(
            self.tree(never), part, f"{restore_id}-{self.name}", partial=less, ownership=options.ownership
        )

    def journal_record(self, options: RestoreOptions = AS_CONFIGURED) -> Mapping[str, bool | str]:
        return {"path": str(self.path.absolute())}

    def as_recorded(self, record: Mapping[str, bool | str]) -> FilesSource:
        return self.model_copy(update={"path": Path(str(record["path"]))}) if "path" in record else self

    def preconditions(self, part: Part, options: RestoreOptions = AS_CONFIGURED) -> Mapping[str, Callable[[], str]]:
        return {"rights": lambda: may_write(self.path)}
