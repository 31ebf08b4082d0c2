"""Finds and reads the settings: the file, the application in the working directory, the variables of the process."""

from __future__ import annotations

import logging
import os
import stat
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from scriptorium import logs
from scriptorium.errors import SettingsError
from scriptorium.fs.system_errors import advice, reason_of
from scriptorium.presets import recognise
from scriptorium.settings.complaints import complaint
from scriptorium.settings.models import Settings
from scriptorium.settings.raw import LIBRARY_VARIABLE, RawTable, fill_in, is_ours, overlay, rename_old_keys
from scriptorium.wording import size

log = logging.getLogger(__name__)

FILE_NAME = "scriptorium.toml"
CONFIG_VARIABLE = "SCRIPTORIUM_CONFIG"
_LARGEST = 1 << 20
_used: list[Settings] = []


def find_file(given: Path | None = None) -> Path | None:
    """The settings file: given, in the variable, here, in the user's or the machine's configuration folder."""
    named = given or (Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else None)
    if named is not None:
        return _existing(named)
    places = (Path.cwd(), _user_folder(), Path("/etc/scriptorium"))
    return next((place / FILE_NAME for place in places if place and _is_file(place / FILE_NAME)), None)


def _user_folder() -> Path | None:
    base = os.environ.get("XDG_CONFIG_HOME")
    try:
        return (Path(base) if base else Path.home() / ".config") / "scriptorium"
    except RuntimeError:  # a user id without a name, as in containers, has no home
        return None


def _is_file(path: Path) -> bool:
    """Whether the file exists and is visible to us; a folder that we may not enter counts as empty."""
    try:
        return path.is_file()
    except OSError:
        return False


def _existing(file: Path) -> Path:
    if _is_file(file):
        return file.absolute()
    try:
        found = stat.filemode(file.stat().st_mode)[0]
    except ValueError:
        raise SettingsError("a file cannot have this name", on=str(file)) from None
    except (FileNotFoundError, NotADirectoryError):
        raise SettingsError("the settings file does not exist", on=str(file)) from None
    except OSError as error:
        raise unreadable(file, error) from None
    what = "a folder" if found == "d" else "not a regular file"
    raise SettingsError(f"the settings file is {what}", on=str(file), hint=f"--config FOLDER/{FILE_NAME}")


def unreadable(file: Path, error: OSError) -> SettingsError:
    return SettingsError(
        f"the settings file cannot be read: {reason_of(error)}", on=str(file), hint=advice(error, file)
    )


def choose_file(file: Path) -> None:
    """Make this the settings file of this process and of every child (``--config``)."""
    os.environ[CONFIG_VARIABLE] = str(_existing(file))


def set_defaults(variables: Mapping[str, str]) -> None:
    """Set variables of this process (for libraries that are configured by them) unless the user has set them."""
    for name, value in variables.items():
        os.environ.setdefault(name, value)


def use(settings: Settings) -> None:
    """Make these the settings of this process: of a store by its address, where there is no file."""
    _used[:] = [settings]


def current() -> Settings:
    """The settings of this process; read again when the file or a variable has changed."""
    if _used:
        return _used[0]
    file = find_file()
    stamp = file.stat().st_mtime_ns if file else 0
    variables = frozenset((name, value) for name, value in os.environ.items() if is_ours(name))
    settings = _cached(file, stamp, Path.cwd(), variables)
    logs.to_configured_file(settings.log_file)
    _note_choice(settings.origin, stamp)
    return settings


@lru_cache(maxsize=4)
def _note_choice(origin: str, stamp: int) -> None:
    """Log once which settings are used, and again after a change."""
    log.info("settings: %s", origin)


def again(settings: Settings) -> Settings:
    """The same settings, read again if they come from a file: an application's own ``.env`` may have changed."""
    file = Path(settings.origin)
    return load(file) if file.is_file() else settings


@lru_cache(maxsize=4)
def _cached(file: Path | None, stamp: int, folder: Path, variables: frozenset[tuple[str, str]]) -> Settings:
    return load(file)


def load(file: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Parse a settings file (or, without one, recognise the application in the working directory).

    ``SettingsError`` names the key that is wrong and what it may be.
    """
    variables = os.environ if environment is None else environment
    base = file.absolute().parent if file else Path.cwd()
    raw = _read(file) if file else _recognised(base, variables)
    rename_old_keys(raw)
    overlay(raw, variables)
    fill_in(raw, variables, base)
    raw["origin"] = str(file) if file else f"recognised in {base}"
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        raise SettingsError(complaint(error, raw), on=str(raw["origin"]), hint="see scriptorium.example.toml") from None


def _read(file: Path) -> RawTable:
    try:
        with file.open("rb") as opened:
            data = opened.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise SettingsError(
                f"the settings file is larger than {size(_LARGEST)}", on=str(file), hint="is it the right one?"
            )
        return tomllib.loads(data.decode("utf-8").removeprefix("\ufeff"))  # a byte order mark
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"the settings file is not valid TOML: not UTF-8, at byte {error.start}",
            on=str(file),
            hint="save it as UTF-8",
        ) from None
    except ValueError as error:  # not TOML, or an impossible number
        where = str(error).partition(";")[0]
        raise SettingsError(f"the settings file is not valid TOML: {where}", on=str(file)) from None
    except RecursionError:
        raise SettingsError("the settings file is nested too deeply", on=str(file)) from None
    except OSError as error:
        raise unreadable(file, error) from None


def _recognised(folder: Path, variables: Mapping[str, str]) -> RawTable:
    if any(name.startswith(LIBRARY_VARIABLE) for name in variables):
        return {}  # configured by variables alone
    known = recognise(folder)
    if known is None:
        raise SettingsError(
            "no settings file, and no application is recognised here",
            on=str(folder),
            hint=f"write {FILE_NAME} (see scriptorium.example.toml), or run this in the application's folder",
        )
    return {"libraries": {known.name: {"preset": known.name, "home": str(folder)}}}
