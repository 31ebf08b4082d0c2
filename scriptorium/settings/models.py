"""What was configured: libraries with their sources, stores, tiers, rules of retention."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, tzinfo
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from scriptorium.errors import NotFound, SettingsError, UsageError
from scriptorium.limits import Days, Name, NoTruth, Seconds, Word
from scriptorium.retention import Policy
from scriptorium.settings.cron import cron_line
from scriptorium.settings.places import require_apart
from scriptorium.sources import AnySource
from scriptorium.sources.abilities import claims_of, with_scratch
from scriptorium.stores import AnyStore, BackupStore
from scriptorium.words import ROLES, BackupType, Compression, Tier

_LONGEST_PLACE = 1000
_RESERVED = frozenset({"backup_metadata.json", "files.jsonl", "manifest.json", "SHA256SUMS"})


def _list_of_words(value: object) -> object:
    """A variable gives ``a,b`` where the file gives ``["a", "b"]``."""
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


def _backup_type(value: object) -> object:
    """The historical words (``data_only``) are understood here as they are on the command line."""
    if not isinstance(value, str):
        return value
    try:
        return BackupType.parse(value)
    except UsageError as error:
        raise ValueError(f"{error.what}; {error.hint}") from None


Words = Annotated[tuple[Word, ...], BeforeValidator(_list_of_words)]


class HealthCheck(BaseModel):
    """How an application is checked after a restore: a ``command`` that ends with 0, a ``url`` that answers.

    ``start`` is run before the check, ``stop`` before the previous data is put back. Both must end, as ``systemctl``
    does; ``start`` may leave the application running (``nohup app &``). If the check fails, ``stop`` is run and all
    processes that ``start`` left in its process group are ended. ``within``: seconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: Words = ()
    url: str = Field(default="", pattern=r"^(https?://.*)?$")
    within: Seconds = 60.0
    start: Words = ()
    stop: Words = ()

    @field_validator("url")
    @classmethod
    def _url_is_whole(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            whole = not url or (bool(parts.hostname) and parts.port != 0 and url.isprintable())
        except ValueError:
            whole = False
        if not whole:
            raise ValueError("this is not an address; write it like http://127.0.0.1:5054/")
        return url

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if not self.command and not self.url:
            raise ValueError("a health check has a 'command' or a 'url'")
        return self


class Library(BaseModel):
    """A library and its sources, in the order in which they are saved: databases come first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    preset: str | None = None
    home: Path | None = None
    missing_files: Literal["warn", "error"] = "warn"
    health: HealthCheck | None = None
    sources: tuple[AnySource, ...] = Field(min_length=1)
    doubts: tuple[str, ...] = ()  # why the application may use other paths than these; set by a preset

    @model_validator(mode="after")
    def _one_place_each(self) -> Self:
        if self.name == "all":
            raise ValueError("'all' means every library; choose another name")
        for what, values in (
            ("name", [source.name for source in self.sources]),
            ("path in the archive", [source.place for source in self.sources]),
        ):
            double = {value for value in values if values.count(value) > 1}
            if double:
                raise ValueError(f"two sources have the same {what}: {', '.join(sorted(double)) or 'the top'}")
        for source in self.sources:
            if source.name == "exports" or source.place.split("/")[0] == "exports":
                raise ValueError("'exports' is the folder of logical exports in an archive; choose another name")
            if source.place and not _is_place(source.place):
                raise ValueError(
                    f"'{source.place[:100]}' cannot be a path in an archive: it must be relative, with '/', without "
                    "'..', not too long"
                )
            if source.place in _RESERVED:
                raise ValueError(f"'{source.place}' is reserved in every archive; give the source another path")
        return self

    def sources_of(self, type: BackupType) -> tuple[AnySource, ...]:
        """The sources that a backup of this type takes; ``NotFound`` when there is none."""
        chosen = tuple(source for source in self.sources if source.role in ROLES[type])
        if not chosen:
            raise NotFound(
                f"this library has nothing that a '{type}' backup would contain",
                on=self.name,
                hint=f"its sources: {', '.join(f'{s.name} ({s.role})' for s in self.sources)}",
            )
        return chosen

    def require_no_doubt(self) -> None:
        """``SettingsError`` if the application may use other paths than these: otherwise a database that is no longer
        used would be saved or overwritten, and nobody would notice."""
        if self.doubts:
            raise SettingsError(
                f"the application may use another place: {'; '.join(self.doubts)}",
                on=self.name,
                hint="make the settings and the application's own configuration name the same place, or move away what "
                "is not used any more",
            )

    def claims_of_others(self, source: AnySource) -> tuple[Path, ...]:
        """Files of the library's databases that a tree of files must neither save nor replace."""
        return tuple(path for other in self.sources if other.name != source.name for path in claims_of(other))


def _is_place(path: str) -> bool:
    names = path.split("/")
    return (
        "\0" not in path
        and len(path) <= _LONGEST_PLACE
        and not any(name in ("", ".", "..") or name.startswith(".scriptorium-") for name in names)
    )


PruneAfter = Literal["proven", "verified", "complete"]


class TierSettings(BaseModel):
    """When a tier runs, what it saves, to which stores, and how long its backups are kept. ``keep_in``: other rules for
    single stores, by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cron: Annotated[str, AfterValidator(lambda text: cron_line(text) if text.strip() else "")] = ""
    type: Annotated[BackupType, BeforeValidator(_backup_type)] = BackupType.FULL
    to: Words = ()
    keep: Policy = Policy()
    keep_in: Mapping[str, Policy] = {}
    libraries: Words = ()


class Settings(BaseModel):
    """Everything that was configured. ``origin``: where from, for messages."""

    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))

    libraries: Mapping[str, Library]
    stores: Mapping[Name, AnyStore]
    tiers: Mapping[Tier, TierSettings] = {}
    keep: Policy = Policy(max_age=30, max_count=50)
    keep_in: Mapping[str, Policy] = {}
    prune_after: PruneAfter = "proven"
    compression: Compression = Compression.GZIP
    workspace: Path | None = None
    space_factor: Annotated[float, NoTruth] = Field(default=1.0, gt=0.0, le=1000, allow_inf_nan=False)
    timezone: str = ""
    keep_previous: Days = 7.0
    enabled: bool = True
    email: str = ""
    log_file: Path | None = None
    origin: str = ""

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for name, tier in self.tiers.items():
            if tier.cron and name in (Tier.MANUAL, Tier.BEFORE_RESTORE):
                raise ValueError(f"tiers.{name}.cron: no schedule starts this tier")
            for store in tier.to:
                if store not in self.stores:
                    raise ValueError(f"tiers.{name}.to names the store '{store}', which is not configured")
            for store in tier.keep_in:
                if store not in self.stores:
                    raise ValueError(f"tiers.{name}.keep_in names the store '{store}', which is not configured")
            for library in tier.libraries:
                if library not in self.libraries:
                    raise ValueError(f"tiers.{name}.libraries names '{library}', which is not configured")
        for store in self.keep_in:
            if store not in self.stores:
                raise ValueError(f"keep_in names the store '{store}', which is not configured")
        return self

    @model_validator(mode="after")
    def _folders_are_apart(self) -> Self:
        require_apart(self)
        return self

    def library(self, name: str | None = None) -> Library:
        """The library of that name; without a name, the only one. Otherwise ``NotFound`` lists them."""
        names = ", ".join(self.libraries)
        if name is None:
            if len(self.libraries) == 1:
                return self._working(next(iter(self.libraries.values())))
            raise NotFound("several libraries are configured; say which", hint=f"--library with one of: {names}")
        if name not in self.libraries:
            raise NotFound("there is no such library", on=name, hint=f"configured: {names}")
        return self._working(self.libraries[name])

    def _working(self, library: Library) -> Library:
        scratch = self.workspace_folder / "unpacked"
        return library.model_copy(
            update={"sources": tuple(with_scratch(source, scratch) for source in library.sources)}
        )

    def store(self, name: str) -> BackupStore:
        if name not in self.stores:
            raise NotFound("there is no such store", on=name, hint=f"configured: {', '.join(self.stores)}")
        return self.stores[name]

    @property
    def zone(self) -> tzinfo:
        """The time zone whose hours and days retention counts: the named one, else this machine's."""
        for name in (self.timezone, *_machine_zones()):
            with contextlib.suppress(ZoneInfoNotFoundError, ValueError, OSError):
                if name:
                    return ZoneInfo(name)
        return UTC

    @field_validator("timezone")
    @classmethod
    def _zone_is_known(cls, name: str) -> str:
        if name and name not in available_timezones():
            raise ValueError(f"there is no time zone '{name}'; write it like Europe/Berlin")
        return name

    def libraries_of(self, tier: Tier) -> tuple[str, ...]:
        """The libraries that a scheduled run of a tier takes: the tier's, else all."""
        named = self.tiers[tier].libraries if tier in self.tiers else ()
        return tuple(named or self.libraries)

    def type_of(self, tier: Tier) -> BackupType:
        """The type of a tier's backups if none is requested."""
        return self.tiers[tier].type if tier in self.tiers else BackupType.FULL

    def rules(self, tier: Tier, store: str) -> tuple[str, Policy]:
        """The rules for the backups of a tier in a store, and the name of the group that they apply to: a tier with
        rules of its own is a group, all others together are one. In both, ``keep_in`` comes before ``keep``."""
        own = self.tiers.get(tier)
        if own is not None and (own.keep != Policy() or store in own.keep_in):
            return tier.value, own.keep_in.get(store, own.keep)
        return "", self.keep_in.get(store, self.keep)

    def targets(self, tier: Tier, chosen: Sequence[str] = ()) -> tuple[BackupStore, ...]:
        """The stores a backup goes to: the chosen ones, else the tier's, else all."""
        names = chosen or (self.tiers[tier].to if tier in self.tiers else ()) or tuple(self.stores)
        return tuple(self.store(name) for name in dict.fromkeys(names))

    @cached_property
    def workspace_folder(self) -> Path:
        """The folder in which backups are staged, and locks and records are kept: by default beside the first store
        that takes over a finished package without copying it."""
        if self.workspace is not None:
            return self.workspace
        folders = (store.folder for store in self.stores.values() if store.features.takes_over)
        beside = next((folder for folder in folders if folder is not None), None)
        return beside / ".scriptorium" if beside is not None else _state_folder() / "workspace"

    @cached_property
    def never(self) -> tuple[Path, ...]:
        """Folders that no backup may contain and no restore may touch: our own."""
        folders = (store.folder for store in self.stores.values())
        return (self.workspace_folder, *(folder for folder in folders if folder is not None))

    def never_of(self, library: Library, source: AnySource) -> tuple[Path, ...]:
        """What this source of a library must leave alone: our own folders, and the files of other databases."""
        return (*self.never, *library.claims_of_others(source))


def _machine_zones() -> Iterator[str]:
    """The names of this machine's time zone: from the variable that containers get, the link, Debian's file."""
    yield os.environ.get("TZ", "").removeprefix(":")
    yield str(Path("/etc/localtime").resolve()).rpartition("/zoneinfo/")[2]
    with contextlib.suppress(OSError, UnicodeDecodeError):
        yield Path("/etc/timezone").read_text("utf-8").strip()


def _state_folder() -> Path:
    base = os.environ.get("XDG_STATE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".local" / "state") / "scriptorium"
    except RuntimeError:  # a user id without a name, as in containers
        raise SettingsError("this user has no home folder to work in", hint="set 'workspace' to a folder") from None
