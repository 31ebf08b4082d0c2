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
        try:
            return cls(text.strip().lower())
        except ValueError:
            raise UsageError(f"'{text}' is not a {cls.__name__.lower()}", hint=f"allowed: {', '.join(cls)}") from None


class BackupType(Word):
    FULL = "full"
    DATA = "data"
    DATABASE = "database"
    CONFIG = "config"

    @classmethod
    def parse(cls, text: str) -> BackupType:
        """Accept the contract's words and the historical ones (``data_only`` and friends)."""
        old = {"data_only": "data", "kuzu_only": "database", "db_only": "database", "config_only": "config"}
        word = text.strip().lower()
        try:
            return cls(old.get(word, word))
        except ValueError:
            raise UsageError(f"'{text}' is not a backup type", hint=f"allowed: {', '.join(cls)}") from None


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
