"""Settings: one TOML file and the environment, parsed into frozen objects that are ready to work.

Order, the first that says something wins: ``SCRIPTORIUM__SECTION__KEY`` variables, the settings file, the variables
that the applications' users know (``BIBLIOTHECA_BACKUP_DIR`` and friends), defaults. Unknown keys are errors. This
module is the only reader of the environment. It is pydantic without pydantic-settings, whose import alone would cost the
inspecting commands most of their half second (docs/decisions/0001).
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from scriptorium.errors import NotFound, SettingsError
from scriptorium.model import ROLES, BackupType, Compression, Tier
from scriptorium.presets import PRESETS, preset, recognise
from scriptorium.retention import Policy
from scriptorium.sources import AnySource
from scriptorium.stores import AnyStore

FILE_NAME = "scriptorium.toml"
CONFIG_VARIABLE = "SCRIPTORIUM_CONFIG"
_PREFIX = "SCRIPTORIUM__"
_LIBRARY_KEYS = frozenset({"name", "preset", "sources"})


def _list_of_words(value: object) -> object:
    """A variable gives ``a,b`` where the file gives ``["a", "b"]``."""
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_list_of_words)]


class Library(BaseModel):
    """A library and its sources, in the order in which they are saved: databases come first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    preset: str | None = None
    home: Path | None = None
    sources: tuple[AnySource, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_place_each(self) -> Self:
        for what, values in (
            ("name", [source.name for source in self.sources]),
            ("path in the archive", [source.place for source in self.sources]),
        ):
            double = {value for value in values if values.count(value) > 1}
            if double:
                raise ValueError(f"two sources have the same {what}: {', '.join(sorted(double)) or 'the top'}")
        for source in self.sources:
            if source.name == "exports" or source.place.split("/")[0] == "exports":
                raise ValueError("'exports' is where logical exports lie in an archive; name the source otherwise")
        return self

    def sources_of(self, type: BackupType) -> tuple[AnySource, ...]:
        """The sources that a backup of this type takes; ``NotFound`` when there is none."""
        chosen = tuple(source for source in self.sources if source.role in ROLES[type])
        if not chosen:
            raise NotFound(
                f"this library has nothing that a '{type}' backup would hold",
                on=self.name,
                hint=f"its sources: {', '.join(f'{s.name} ({s.role})' for s in self.sources)}",
            )
        return chosen


class TierSettings(BaseModel):
    """When a tier runs, what it takes, where to, and how long it is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cron: str = ""
    type: BackupType = BackupType.FULL
    to: Words = ()
    keep: Policy = Policy()
    libraries: Words = ()


class Settings(BaseModel):
    """Everything that was configured. ``origin``: where from, for messages."""

    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))

    libraries: Mapping[str, Library]
    stores: Mapping[str, AnyStore]
    tiers: Mapping[Tier, TierSettings] = {}
    keep: Policy = Policy(max_age=30, max_count=50)
    compression: Compression = Compression.GZIP
    workspace: Path | None = None
    space_factor: float = Field(default=1.0, gt=0.0)
    enabled: bool = True
    email: str = ""
    origin: str = ""

    @model_validator(mode="after")
    def _stores_are_known(self) -> Self:
        for name, tier in self.tiers.items():
            for store in tier.to:
                if store not in self.stores:
                    raise ValueError(f"tiers.{name}.to names the store '{store}', which is not configured")
            for library in tier.libraries:
                if library not in self.libraries:
                    raise ValueError(f"tiers.{name}.libraries names '{library}', which is not configured")
        return self

    def library(self, name: str | None = None) -> Library:
        """The library of that name; without one, the only one. ``NotFound`` lists them otherwise."""
        names = ", ".join(self.libraries)
        if name is None:
            if len(self.libraries) == 1:
                return next(iter(self.libraries.values()))
            raise NotFound("several libraries are configured; say which", hint=f"--library with one of: {names}")
        if name not in self.libraries:
            raise NotFound("there is no such library", on=name, hint=f"configured: {names}")
        return self.libraries[name]

    def store(self, name: str) -> AnyStore:
        if name not in self.stores:
            raise NotFound("there is no such store", on=name, hint=f"configured: {', '.join(self.stores)}")
        return self.stores[name]

    def targets(self, tier: Tier, chosen: Sequence[str] = ()) -> tuple[AnyStore, ...]:
        """The stores a backup goes to: the chosen ones, else the tier's, else all."""
        names = chosen or (self.tiers[tier].to if tier in self.tiers else ()) or tuple(self.stores)
        return tuple(self.store(name) for name in dict.fromkeys(names))

    @cached_property
    def workroom(self) -> Path:
        """Where backups are staged, locks and records kept: beside the first local store, so that the finished
        archive gets there without being copied."""
        if self.workspace is not None:
            return self.workspace
        local = next((store.local_path("x") for store in self.stores.values() if store.kind == "local"), None)
        return local.parent / ".scriptorium" if local is not None else _state_folder() / "workspace"

    @cached_property
    def never(self) -> tuple[Path, ...]:
        """Folders that no backup may contain: our own."""
        local = [store.local_path("x") for store in self.stores.values()]
        return (self.workroom, *(path.parent for path in local if path is not None))


def _state_folder() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "scriptorium"


@dataclass(frozen=True, slots=True)
class Found:
    """A settings file, or the folder in which an application was recognised."""

    file: Path | None
    preset: str | None = None


def find_file(given: Path | None = None) -> Path | None:
    """The settings file: given, in the variable, here, in the user's or the machine's configuration folder."""
    named = given or (Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else None)
    if named is not None:
        if not named.is_file():
            raise SettingsError("the settings file does not exist", on=str(named))
        return named.absolute()
    user = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "scriptorium"
    places = (Path.cwd(), user, Path("/etc/scriptorium"))
    return next((place / FILE_NAME for place in places if (place / FILE_NAME).is_file()), None)


def choose_file(file: Path) -> None:
    """Make this the settings file of this process and of every child (``--config``)."""
    if not file.is_file():
        raise SettingsError("the settings file does not exist", on=str(file))
    os.environ[CONFIG_VARIABLE] = str(file.absolute())


def set_defaults(variables: Mapping[str, str]) -> None:
    """Set variables of this process (for libraries that are configured by them) unless the user has set them."""
    for name, value in variables.items():
        os.environ.setdefault(name, value)


def current() -> Settings:
    """The settings of this process; read again when the file has changed."""
    file = find_file()
    stamp = file.stat().st_mtime_ns if file else 0
    return _cached(file, stamp, Path.cwd())


@lru_cache(maxsize=4)
def _cached(file: Path | None, stamp: int, folder: Path) -> Settings:
    return load(file)


def load(file: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Parse a settings file (or, without one, recognise the application in the working directory).

    ``SettingsError`` names the key that is wrong and what it may be.
    """
    variables = os.environ if environment is None else environment
    raw = _read(file) if file else _recognised(Path.cwd())
    _overlay(raw, variables)
    _fill_in(raw, variables, base=file.parent if file else Path.cwd())
    raw["origin"] = str(file) if file else f"recognised in {Path.cwd()}"
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        raise SettingsError(_complaint(error), on=str(raw["origin"]), hint="see scriptorium.example.toml") from None


def _read(file: Path) -> dict[str, object]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"the settings file is not valid TOML: {error}", on=str(file)) from None
    except OSError as error:
        raise SettingsError(f"the settings file cannot be read: {error.strerror}", on=str(file)) from None


def _recognised(folder: Path) -> dict[str, object]:
    known = recognise(folder)
    if known is None:
        raise SettingsError(
            "no settings file, and no application is recognised here",
            on=str(folder),
            hint=f"write {FILE_NAME} (see scriptorium.example.toml), or run this in the application's folder",
        )
    return {"libraries": {known.name: {"preset": known.name, "home": str(folder)}}}


def _overlay(raw: dict[str, object], variables: Mapping[str, str]) -> None:
    """Put ``SCRIPTORIUM__A__B=value`` at ``raw["a"]["b"]``; JSON where it is JSON, else text."""
    for name, text in variables.items():
        if not name.startswith(_PREFIX):
            continue
        *path, last = name.removeprefix(_PREFIX).lower().split("__")
        table = raw
        for step in path:
            below = table.setdefault(step, {})
            if not isinstance(below, dict):
                raise SettingsError("this variable names a key inside something that is not a table", on=name)
            table = below
        table[last] = _value(text)


def _value(text: str) -> object:
    if text[:1] in '[{"' or text in ("true", "false"):
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return text
    return text


def _table(raw: dict[str, object], key: str) -> dict[str, object]:
    table = raw.setdefault(key, {})
    if not isinstance(table, dict):
        raise SettingsError(f"'{key}' is a table", hint=f"write [{key}.NAME]")
    return table


def _fill_in(raw: dict[str, object], variables: Mapping[str, str], base: Path) -> None:
    """Expand presets, name what the tables' keys name, and take the applications' own variables."""
    libraries = _table(raw, "libraries")
    if not libraries:
        raise SettingsError(
            "no library is configured", hint='write [libraries.NAME] with preset = "…" or sources = […]'
        )
    for name, table in libraries.items():
        if not isinstance(table, dict):
            raise SettingsError(f"'libraries.{name}' is a table")
        libraries[name] = _library(name, table, variables, base)
    stores = _table(raw, "stores")
    if not stores:
        folder = variables.get("BIBLIOTHECA_BACKUP_DIR") or "./data/backups"
        homes = [
            Path(str(table["home"])) for table in libraries.values() if isinstance(table, dict) and table.get("home")
        ]
        stores["local"] = {"kind": "local", "path": str((homes[0] if homes else base) / folder)}
    for name, table in stores.items():
        if not isinstance(table, dict):
            raise SettingsError(f"'stores.{name}' is a table", hint='write kind = "local" and its settings')
        table.setdefault("name", name)
        if "path" in table:
            table["path"] = str((base / Path(str(table["path"])).expanduser()).absolute())
    if "workspace" in raw:
        raw["workspace"] = str((base / Path(str(raw["workspace"])).expanduser()).absolute())
    if "keep" not in raw and ("BIBLIOTHECA_BACKUP_MAX_AGE" in variables or "BIBLIOTHECA_BACKUP_MAX_COUNT" in variables):
        raw["keep"] = {
            "max_age": variables.get("BIBLIOTHECA_BACKUP_MAX_AGE", "30"),
            "max_count": variables.get("BIBLIOTHECA_BACKUP_MAX_COUNT", "50"),
        }
    raw.setdefault("enabled", variables.get("BIBLIOTHECA_BACKUP_ENABLED", "true"))
    raw.setdefault("email", variables.get("BIBLIOTHECA_BACKUP_EMAIL", ""))


def _library(name: str, table: dict[str, object], variables: Mapping[str, str], base: Path) -> dict[str, object]:
    result: dict[str, object] = {"name": name, "preset": table.get("preset")}
    home = table.get("home")
    if isinstance(home, str):
        table["home"] = result["home"] = str((base / Path(home).expanduser()).absolute())
    if table.get("preset"):
        if "sources" in table:
            raise SettingsError("a library has a preset or sources, not both", on=f"libraries.{name}")
        known = preset(str(table["preset"]))
        _only_known_keys(f"libraries.{name}", table, known.keys)
        result["sources"] = known.sources(table, variables)
    else:
        if "sources" not in table:
            raise SettingsError(
                "a library needs a preset or sources", on=f"libraries.{name}", hint=f"presets: {', '.join(PRESETS)}"
            )
        _only_known_keys(f"libraries.{name}", table, frozenset({"home"}))
        result["sources"] = [_placed(source, base) for source in _rows(table["sources"], f"libraries.{name}.sources")]
    return result


def _rows(value: object, where: str) -> list[dict[str, object]]:
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise SettingsError("this is a list of tables, one a source", on=where)
    return value


def _placed(source: dict[str, object], base: Path) -> dict[str, object]:
    if "path" in source:
        source["path"] = str((base / Path(str(source["path"])).expanduser()).absolute())
    return source


def _only_known_keys(where: str, table: Mapping[str, object], known: frozenset[str]) -> None:
    unknown = set(table) - known - _LIBRARY_KEYS
    if unknown:
        raise SettingsError(
            f"unknown key: {', '.join(sorted(unknown))}",
            on=where,
            hint=f"known: {', '.join(sorted(known | _LIBRARY_KEYS))}",
        )


def _complaint(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        place = ".".join(str(step) for step in problem["loc"])
        lines.append(f"{place}: {problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(lines)
