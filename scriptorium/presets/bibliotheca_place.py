"""Where Bibliotheca keeps its data: the settings are compared with the application's own configuration.

The application reads ``KUZU_DB_PATH`` (a folder, by default ``./data/kuzu``) and ``DATA_DIR`` from its environment,
from ``data/.env``, from ``.env``; in a container its compose file sets them, and says which folder of this machine is
meant. If two of these name two databases that both exist, that is a doubt: only the user knows which one is in use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from scriptorium.presets.compose_files import Compose, compose
from scriptorium.presets.surroundings import env_file, open_in, unreadable

DATABASE_FILE = "bibliotheca.db"
_IMAGE = "/app"  # where the application's own image has the installation
_VARIABLE = "KUZU_DB_PATH"
_DATA_VARIABLES = ("MYBIBLIOTHECA_DATA_DIR", "DATA_DIR")


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of the data and the database's file. ``doubts``: reasons why the application may use others;
    ``unknown``: what could not be read about them."""

    data: Path
    database: Path
    doubts: tuple[str, ...]
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Named:
    """A path that some setting names; ``by``: which one, for people."""

    path: Path
    by: str


def place(home: Path, library: Mapping[str, object], variables: Mapping[str, str]) -> Place:
    """``library``: the settings' own table; ``variables``: those of our environment that are the application's."""
    above = env_file(home / ".env")
    around = compose(home, above, (_VARIABLE, *_DATA_VARIABLES))
    data, data_doubts = _data(home, library, above, around)
    named = list(_named(home, data, variables, above, around))
    given = library.get("database_file")
    if given:
        chosen = _Named(Path(str(given)), "'database_file' of the settings")
    else:
        usual = [
            _Named(folder / "kuzu" / DATABASE_FILE, f"{folder}/kuzu") for folder in dict.fromkeys((data, home / "data"))
        ]
        there = [one for one in usual if one.path.exists()]
        named = named or there[1:]
        chosen = named[0] if named and named[0] not in there else (there or usual)[0]
    doubts = (*data_doubts, *(_open(named) if not given else ()), *_doubts(chosen, named))
    return Place(data, chosen.path, doubts, () if given else tuple(_unknown(home, data, around)))


def _open(named: list[_Named]) -> Iterator[str]:
    """The places that cannot be known here: they depend on the environment of the application."""
    for one in named:
        if open_in(str(one.path)):
            yield f"{one.by} means {one.path.parent}, which has a variable without a value; set 'database_file'"


def _unknown(home: Path, data: Path, around: Compose) -> Iterator[str]:
    unread = [(path, unreadable(path)) for path in dict.fromkeys((home / ".env", data / ".env"))]
    for path, why in [(path, why) for path, why in unread if why] + [
        (home / name, "no YAML") for name in around.unclear
    ]:
        yield f"{path} cannot be read ({why}): not known whether it names another place for the database"


def _data(
    home: Path, library: Mapping[str, object], above: Mapping[str, str], around: Compose
) -> tuple[Path, tuple[str, ...]]:
    given = Path(str(library["data"])) if library.get("data") else None
    for known, where in ((above, str(home / ".env")), (around.variables, around.file)):
        text = next((known[name] for name in _DATA_VARIABLES if known.get(name)), None)
        if text is None:
            continue
        if open_in(text):
            doubt = f"{where} names {text} as the data, which has a variable without a value; set 'data'"
            return given or home / "data", () if given else (doubt,)
        named_there = _on_this_machine(text, home, given or home / "data", around)
        if given is None and named_there.is_dir():
            return named_there, ()
        if given is not None and named_there.is_dir() and given.is_dir() and not named_there.samefile(given):
            return given, (f"the settings name {given} as the data, {where} names {named_there}",)
    return given or home / "data", ()


def _named(
    home: Path, data: Path, variables: Mapping[str, str], above: Mapping[str, str], around: Compose
) -> Iterator[_Named]:
    inner = env_file(data / ".env")
    dotenv, where = (inner, data / ".env") if inner.get(_VARIABLE) else (above, home / ".env")
    for known, by in ((variables, "the environment"), (dotenv, str(where)), (around.variables, around.file)):
        if text := known.get(_VARIABLE, "").strip():
            folder = _on_this_machine(text, home, data, around)
            yield _Named(folder / DATABASE_FILE, f"{_VARIABLE} of {by}")


def _on_this_machine(text: str, home: Path, data: Path, around: Compose) -> Path:
    """The folder on this machine for a path of the application: a relative path starts at the installation, a path of
    the container is where it is mounted."""
    path = Path(text)
    if not path.is_absolute():
        path = Path(*path.parts)
        return data.joinpath(*path.parts[1:]) if path.parts[:1] == ("data",) else home / path
    if not path.exists() and (mounted := around.on_host(text)) is not None:
        return mounted
    if not path.exists() and path.is_relative_to(_IMAGE):
        inside = path.relative_to(_IMAGE)
        return data.joinpath(*inside.parts[1:]) if inside.parts[:1] == ("data",) else home / inside
    return path


def _doubts(chosen: _Named, named: list[_Named]) -> Iterator[str]:
    for other in named:
        if other.path.exists() and chosen.path.exists() and not other.path.samefile(chosen.path):
            yield f"{chosen.by} means {chosen.path}, {other.by} means {other.path}, and both are there"
        elif other.path.exists() and not chosen.path.exists():
            yield f"{chosen.by} means {chosen.path}, which is not there; {other.by} means {other.path}"
    if chosen in named and not chosen.path.parent.parent.exists():
        yield f"{chosen.by} means {chosen.path.parent}, and this machine has no such folder"
