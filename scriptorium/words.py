"""The words of the contract: types, tiers, states, compressions, and what a source is to its library."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Self

from scriptorium.errors import UsageError


class Word(StrEnum):
    """A word of the contract; ``parse`` says which ones are allowed when it meets another."""

    @classmethod
    def parse(cls, text: str) -> Self:
        word = text.strip().lower()
        try:
            return cls(cls._of_earlier_times().get(word, word))
        except ValueError:
            raise UsageError(f"'{text}' is not {cls._called()}", hint=f"allowed: {', '.join(cls)}") from None

    @classmethod
    def _called(cls) -> str:
        return f"a {cls.__name__.lower()}"

    @classmethod
    def _of_earlier_times(cls) -> Mapping[str, str]:
        """Words that are read as one of today's."""
        return {}


class BackupType(Word):
    FULL = "full"
    DATA = "data"
    DATABASE = "database"
    CONFIG = "config"

    @classmethod
    def _called(cls) -> str:
        return "a backup type"

    @classmethod
    def _of_earlier_times(cls) -> Mapping[str, str]:
        return {"data_only": "data", "kuzu_only": "database", "db_only": "database", "config_only": "config"}


class Tier(Word):
    MANUAL = "manual"
    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    BEFORE_RESTORE = "before-restore"


class Status(Word):
    RUNNING = "running"
    COMPLETE = "complete"
    VERIFIED = "verified"
    PROVEN = "proven"
    DEGRADED = "degraded"
    DAMAGED = "damaged"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def good(self) -> bool:
        """Whether a backup in this state can be counted on for a restore of what it holds."""
        return self.whole or self is Status.DEGRADED

    @property
    def whole(self) -> bool:
        """Whether it also holds everything that was to be saved."""
        return self in (Status.COMPLETE, Status.VERIFIED, Status.PROVEN)


class Compression(Word):
    GZIP = "gzip"
    ZSTD = "zstd"
    NONE = "none"

    @property
    def ending(self) -> str:
        return {"gzip": ".tar.gz", "zstd": ".tar.zst", "none": ".tar"}[self.value]


class ExportFormat(Word):
    """What ``export`` writes a table as."""

    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"

    @classmethod
    def parse(cls, text: str) -> Self:
        try:
            return super().parse(text)
        except UsageError as error:
            more = "; a spreadsheet opens csv" if text == "xlsx" else ""
            raise UsageError(error.what, hint=error.hint + more) from None

    @classmethod
    def _called(cls) -> str:
        return "a format of an export"


class DatabaseFormat(Word):
    """What ``database backup`` writes a database as."""

    CUSTOM = "custom"
    SQL = "sql"
    DIRECTORY = "directory"

    @classmethod
    def _called(cls) -> str:
        return "a format"


class Role(StrEnum):
    """What a source is to its library; a backup type chooses sources by it."""

    DATABASE = "database"
    FILES = "files"
    CONFIG = "config"


ROLES: Mapping[BackupType, frozenset[Role]] = {
    BackupType.FULL: frozenset(Role),
    BackupType.DATA: frozenset({Role.DATABASE, Role.FILES}),
    BackupType.DATABASE: frozenset({Role.DATABASE}),
    BackupType.CONFIG: frozenset({Role.CONFIG}),
}


class JournalState(StrEnum):
    """How far a restore in place is, as its journal has it."""

    PREPARING = "preparing"
    SWITCHING = "switching"
    SWITCHED = "switched"
    KEPT = "kept"
    UNDOING = "going-back"
    DROPPING = "dropping"

    @property
    def halfway(self) -> bool:
        """Whether the living data may be half old and half new."""
        return self in (JournalState.SWITCHING, JournalState.SWITCHED, JournalState.UNDOING)

    @property
    def cut_short(self) -> bool:
        """Whether a journal that nobody works on must be rolled back."""
        return self.halfway or self is JournalState.PREPARING
