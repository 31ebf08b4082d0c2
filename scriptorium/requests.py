"""Requests: one frozen model for each operation, which says what is wanted.

The command line builds it, the flow's parameters are its fields (a test compares them), and every operation takes it.
A request that makes no sense is refused here, at once: ``UsageError``. The settings and the catalog check whether the
library, store or backup exists. An operation makes a plan from a request.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ModelWrapValidatorHandler, ValidationError
from pydantic import model_validator as checked

from scriptorium.errors import UsageError
from scriptorium.retention import Policy
from scriptorium.words import BackupType, Compression, DatabaseFormat, ExportFormat, Tier, Word

LATEST = "latest"
_LONGEST_NAME = 200
_ACCOUNT = re.compile(r"[A-Za-z_][A-Za-z0-9._@-]{0,63}")


def _word(kind: type[Word]) -> BeforeValidator:
    """Accept the words of the contract, also the historical ones, as they are typed."""
    return BeforeValidator(lambda value: kind.parse(value) if isinstance(value, str) else value)


def _nothing(value: object) -> object:
    """What a form sends for a field that was left empty."""
    return None if value in ("", {}) else value


def _folder(value: object) -> object:
    return os.fspath(value) if isinstance(value, os.PathLike) else _nothing(value)


def _names(value: object) -> object:
    return () if value is None else value


def _name(value: object) -> object:
    """A backup's name: one line, and not the word that means the newest backup."""
    if not isinstance(value, str):
        return value
    name = value.strip()
    if name == LATEST:
        raise UsageError("'latest' means the newest backup; give this one another name", on=name)
    if len(name) > _LONGEST_NAME or any(ord(letter) < 32 for letter in name):
        raise UsageError(f"a backup's name is one line of at most {_LONGEST_NAME} characters", on=repr(name[:40]))
    return name


def _stripped(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


def _share(value: object) -> object:
    if isinstance(value, str):
        share_of(value)
    return value


def _owner(value: object) -> object:
    """Whom restored files belong to: a word, or a user and a group."""
    if not isinstance(value, str) or value in ("keep", "me"):
        return _nothing(value)
    parts = value.split(":")
    if value and (len(parts) != 2 or not all(_is_account(part) for part in parts)):
        raise UsageError(f"'{value}' is not an owner", hint="keep, me, or UID:GID, e.g. 1000:1000")
    return value or None


def _is_account(text: str) -> bool:
    """Whether this can be the name or the number of a user or group; the two highest numbers mean nobody's."""
    return int(text) < 2**32 - 2 if text.isdecimal() and text.isascii() else bool(_ACCOUNT.fullmatch(text))


def share_of(text: str) -> tuple[int, int]:
    """``N/T``: the N-th of T shares. ``UsageError`` for anything else."""
    match = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"'{text}' is not a share", hint="N/T with N from 1 to T, e.g. 1/7")
    return int(match[1]), int(match[2])


# Types of the fields, and of the flows' parameters.
MaybeType = Annotated[BackupType | None, _word(BackupType), BeforeValidator(_nothing)]
MaybeCompression = Annotated[Compression | None, _word(Compression), BeforeValidator(_nothing)]
MaybePolicy = Annotated[Policy | None, BeforeValidator(_nothing)]
MaybeFolder = Annotated[str | None, BeforeValidator(_folder)]
MaybeShare = Annotated[str | None, BeforeValidator(_share)]
MaybeOwner = Annotated[str | None, BeforeValidator(_owner)]
AnyTier = Annotated[Tier, _word(Tier)]
AnyExportFormat = Annotated[ExportFormat, _word(ExportFormat)]
AnyDatabaseFormat = Annotated[DatabaseFormat, _word(DatabaseFormat)]
Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
Name = Annotated[str, BeforeValidator(_name)]
Line = Annotated[str, BeforeValidator(_stripped)]
Level = Annotated[int, Field(ge=0, le=9)]
Paths = Annotated[tuple[Path, ...], Field(min_length=1)]


class Request(BaseModel):
    """The base of all requests: they are frozen, and refuse unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @checked(mode="wrap")
    @classmethod
    def _as_usage_error(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(given)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            raise UsageError(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None

    def parameters(self) -> dict[str, Any]:
        """The fields by name: what a flow is called with."""
        return {name: getattr(self, name) for name in type(self).model_fields}


class BackupRequest(Request):
    """Take a backup. ``type``: the tier's own when none is given; ``to``: stores by name (the tier's, else all)."""

    library: str | None = None
    type: MaybeType = None
    tier: AnyTier = Tier.MANUAL
    name: Name = ""
    description: Line = ""
    to: Names = ()
    compression: MaybeCompression = None


class TierRequest(Request):
    """Take a backup of every library of a tier."""

    tier: AnyTier


class RestoreRequest(Request):
    """Restore a backup: into the folder ``path``, as one ``database`` under a new name, or over the living data.

    ``only``: glob patterns over paths in the archive, or a source by its name. ``rebuild``: make databases from their
    logical exports. ``clean``: ``path`` may hold something, which is replaced; in place, into the living PostgreSQL
    database in one transaction. ``safety``: whether a restore in place takes a backup of the living data first.
    ``owner``: ``keep`` (as recorded), ``me``, or ``UID:GID``; without it, as recorded if this runs as root.
    """

    reference: str
    library: str | None = None
    path: MaybeFolder = None
    only: Names = ()
    store: str | None = None
    rebuild: bool = False
    clean: bool = False
    safety: bool = True
    database: str = ""
    without_roles: bool = False
    without_broken_constraints: bool = False
    owner: MaybeOwner = None

    @checked(mode="after")
    def _one_target(self) -> Self:
        if self.database and (self.path is not None or self.only):
            raise UsageError(
                "--database restores one database under another name; it goes with no folder and no pattern"
            )
        if self.database and self.owner is not None:
            raise UsageError("--owner is for files; a database has its owners from its dump")
        return self

    @property
    def in_place(self) -> bool:
        """Whether living data is replaced."""
        return self.path is None and not self.database


class UndoRequest(Request):
    """Undo the newest restore in place. ``safety``: whether the current data is backed up first."""

    library: str | None = None
    safety: bool = True


class DrillRequest(Request):
    """Drill a backup, from the named store or the best copy."""

    reference: str = LATEST
    library: str | None = None
    store: str | None = None


class DrillAllRequest(Request):
    """Drill the newest backup of every library."""

    store: str | None = None


class VerifyRequest(Request):
    """Verify the copies of the backups ``ids``, or of all; ``share`` (``N/T``): the N-th of T shares of them, of their
    contents or of the backups as their stores can."""

    ids: Names = ()
    library: str | None = None
    store: str | None = None
    share: MaybeShare = None


class PruneRequest(Request):
    """Apply the rules of retention to one library, or to all. ``policy``: instead of the settings' rules."""

    library: str | None = None
    policy: MaybePolicy = None
    dry_run: bool = False


class DeleteRequest(Request):
    """Remove one backup from every store, whatever the rules of retention say."""

    reference: str
    library: str | None = None


class PinRequest(Request):
    """Pin a backup, so that it is never removed; or unpin it."""

    reference: str
    library: str | None = None
    pinned: bool = True


class AdoptRequest(Request):
    """Adopt files that other programs made, or archives of ours from elsewhere, as backups of ``library`` in the stores
    ``to``; of a folder, every archive directly in it. ``trusted``: the statements in a dump are not examined."""

    paths: Paths
    library: str | None = None
    to: Names = ()
    pinned: bool = False
    trusted: bool = False


class CopyRequest(Request):
    """Copy a backup into the stores ``to`` (without: those of its tier), from the named ``store`` or the best copy.

    ``missing``: instead of one backup every one, into the stores of its tier that have no good copy of it; where stores
    are named, only into these.
    """

    reference: str = LATEST
    library: str | None = None
    to: Names = ()
    store: str | None = None
    missing: bool = False
    dry_run: bool = False

    @checked(mode="after")
    def _one_or_all(self) -> Self:
        if self.missing and (self.reference != LATEST or self.store is not None):
            raise UsageError("--missing goes through all backups: it takes no ID and no --from")
        return self


class ExportRequest(Request):
    """Export tables of a backup (all without names). ``output``: a file for one table, else a folder."""

    reference: str = LATEST
    library: str | None = None
    tables: Names = ()
    format: AnyExportFormat = ExportFormat.CSV
    output: str | None = None


class DatabaseBackupRequest(Request):
    """Write a library's PostgreSQL database to one file. ``compress``: 0 (none) to 9."""

    file: str
    library: str | None = None
    source: str | None = None
    format: AnyDatabaseFormat = DatabaseFormat.CUSTOM
    compress: Level = 6


class DatabaseRestoreRequest(Request):
    """Load a library's PostgreSQL database from one file. ``clean``: over what is there; ``trust``: the file may hold
    statements that reach the server's machine."""

    file: str
    library: str | None = None
    source: str | None = None
    clean: bool = False
    trust: bool = False
    without_broken_constraints: bool = False
