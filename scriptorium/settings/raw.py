"""Tables as they were written, prepared for the models: variables applied, presets expanded, paths absolute."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from scriptorium.errors import SettingsError
from scriptorium.presets import PRESETS, preset
from scriptorium.settings.models import Settings
from scriptorium.sources import AnySource
from scriptorium.stores import kind_of

RawTable = dict[str, object]

_PREFIX = "SCRIPTORIUM__"
LIBRARY_VARIABLE = f"{_PREFIX}LIBRARIES__"
_APPLICATIONS = ("BIBLIOTHECA_", "ALEXANDRIA_", "KUZU_DB_PATH")
_LONGEST_PATH, _LONGEST_NAME = 4000, 255
_COMMON_KEYS = ("missing_files", "health")
_LIBRARY_KEYS = frozenset({"preset", "sources", *_COMMON_KEYS})
_OLD_KEYS = {"keep_former": "keep_previous"}  # at the top level of the file; the old names are still read


def is_ours(variable: str) -> bool:
    """Whether a variable of the environment can change the settings."""
    return variable.startswith((_PREFIX, *_APPLICATIONS))


def rename_old_keys(raw: RawTable) -> None:
    """Give the settings of a file their current names. ``SettingsError`` if one has both names."""
    for old, new in _OLD_KEYS.items():
        if old in raw and new in raw:
            raise SettingsError(f"'{old}' is the old name of '{new}': write only one of them")
        if old in raw:
            raw[new] = raw.pop(old)


def overlay(raw: RawTable, variables: Mapping[str, str]) -> None:
    """Put ``SCRIPTORIUM__A__B=value`` at ``raw["a"]["b"]``; JSON where it is JSON, else text."""
    for name, text in sorted(variables.items()):
        if not name.startswith(_PREFIX):
            continue
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise SettingsError("the value of this variable is not UTF-8", on=name)
        *path, last = name.removeprefix(_PREFIX).lower().split("__")
        table = raw
        for step in path:
            below = table.setdefault(_spelled(step, table), {})
            if not isinstance(below, dict):
                raise SettingsError("this variable names a key inside something that is not a table", on=name)
            table = below
        key = last if path else _OLD_KEYS.get(last, last)
        table[_spelled(key, table)] = _value(text)


def _spelled(step: str, table: RawTable) -> str:
    """The key that a variable means. A variable's name has no hyphens, and its case does not count."""
    return next((key for key in table if key.lower().replace("-", "_") == step), step)


def _value(text: str) -> object:
    if text[:1] in ("[", "{", '"') or text in ("true", "false"):
        try:
            value: object = json.loads(text)
        except (ValueError, RecursionError):
            return text
        return value
    return text


def fill_in(raw: RawTable, variables: Mapping[str, str], base: Path) -> None:
    """Expand presets, set names from the keys of tables, use the applications' own variables. Relative paths start at
    ``base``."""
    libraries = _table(raw, "libraries")
    if not libraries:
        raise SettingsError(
            "no library is configured", hint='write [libraries.NAME] with preset = "…" or sources = […]'
        )
    for name, table in libraries.items():
        if not isinstance(table, dict):
            raise SettingsError(f"'libraries.{name}' is a table")
        libraries[name] = _library(name, table, variables, base)
    _stores(raw, libraries, variables, base)
    _place_paths(Settings, raw, base)
    age, count = (_number(variables, f"BIBLIOTHECA_BACKUP_MAX_{what}") for what in ("AGE", "COUNT"))
    if "keep" not in raw and (age or count):
        raw["keep"] = {"max_age": age or 30, "max_count": count or 50}
    raw.setdefault("enabled", variables.get("BIBLIOTHECA_BACKUP_ENABLED") or "true")
    raw.setdefault("email", variables.get("BIBLIOTHECA_BACKUP_EMAIL", ""))


def _number(variables: Mapping[str, str], name: str) -> int | None:
    """A variable of the applications that is a number. Its error names the variable, because users know that."""
    text = variables.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 9 and int(text)):
        raise SettingsError("this is a whole number, 1 or more, of at most 9 digits", on=name)
    return int(text)


def _table(raw: RawTable, key: str) -> RawTable:
    table = raw.setdefault(key, {})
    if not isinstance(table, dict):
        raise SettingsError(f"'{key}' is a table", hint=f"write [{key}.NAME]")
    return table


def _stores(raw: RawTable, libraries: RawTable, variables: Mapping[str, str], base: Path) -> None:
    stores = _table(raw, "stores")
    if not stores:
        folder = Path(variables.get("BIBLIOTHECA_BACKUP_DIR") or "./data/backups")
        homes = [table["home"] for table in libraries.values() if isinstance(table, dict) and table.get("home")]
        stores["local"] = {"kind": "local", "path": placed(folder, Path(str(homes[0])) if homes else base)}
    for name, table in stores.items():
        if not isinstance(table, dict):
            raise SettingsError(f"'stores.{name}' is a table", hint='write kind = "local" and its settings')
        _named_by_its_key(f"stores.{name}", table)
        table["name"] = name
        _place_paths(kind_of(table), table, base, f"stores.{name}.")


def _named_by_its_key(where: str, table: RawTable) -> None:
    if "name" in table:
        raise SettingsError("the name is in the table's heading; 'name' is not a key", on=where)


def _library(name: str, table: RawTable, variables: Mapping[str, str], base: Path) -> RawTable:
    where = f"libraries.{name}"
    _named_by_its_key(where, table)
    result: RawTable = {"name": name, "preset": table.get("preset")}
    result |= {key: table[key] for key in _COMMON_KEYS if key in table}
    if isinstance(table.get("preset"), str):
        if "sources" in table:
            raise SettingsError("a library has a preset or sources, not both", on=where)
        known = preset(str(table["preset"]))
        _only_known_keys(where, table, known.keys)
        for key in known.paths & table.keys():
            table[key] = _placed_text(table[key], base, f"{where}.{key}")
        if os.path.realpath(str(table.get("home", ""))) == "/" and "home" in table:
            raise SettingsError("an application's folder is not the root of all folders", on=f"{where}.home")
        rows = known.sources(table, variables)
        result["doubts"] = known.doubts(table, variables)
    else:
        if "sources" not in table:
            raise SettingsError("a library needs a preset or sources", on=where, hint=f"presets: {', '.join(PRESETS)}")
        _only_known_keys(where, table, frozenset({"home"}))
        if "home" in table:
            table["home"] = _placed_text(table["home"], base, f"{where}.home")
        rows = _rows(table["sources"], f"{where}.sources")
    for row in rows:
        _place_paths(_model_of(row, AnySource), row, base, f"{where}.sources.{row.get('name', '')}.")
    result["sources"] = rows
    if "home" in table:
        result["home"] = table["home"]
    return result


def _rows(value: object, where: str) -> list[RawTable]:
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise SettingsError("this is a list of tables, one a source", on=where)
    return value


def _only_known_keys(where: str, table: Mapping[str, object], known: frozenset[str]) -> None:
    unknown = set(table) - known - _LIBRARY_KEYS
    if unknown:
        raise SettingsError(
            f"unknown key: {', '.join(sorted(unknown))}",
            on=where,
            hint=f"known: {', '.join(sorted(known | _LIBRARY_KEYS))}",
        )


# --- paths --------------------------------------------------------------------------------------------------------


def placed(path: Path, base: Path) -> str:
    """An absolute path; ``~`` is the user's home, a relative one starts at ``base``."""
    try:
        return str((base / path.expanduser()).absolute())
    except RuntimeError:
        raise SettingsError("there is no such user's home folder", on=str(path)) from None


def _placed_text(value: object, base: Path, where: str) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise SettingsError("this must be a path, as text", on=where)
    path = placed(Path(value), base)
    if len(os.fsencode(path)) > _LONGEST_PATH or any(
        len(os.fsencode(name)) > _LONGEST_NAME for name in path.split("/")
    ):
        raise SettingsError("this path is too long for any filesystem", on=where)
    return path


def _place_paths(model: type[BaseModel] | None, table: RawTable, base: Path, where: str = "") -> None:
    """Make every path of a table absolute, as the model's fields say which ones are paths."""
    if model is None:
        return
    for name, field in model.model_fields.items():
        value = table.get(name)
        if isinstance(value, str) and Path in _types(field):
            table[name] = _placed_text(value, base, f"{where}{name}")
        elif isinstance(value, dict):
            for below in _types(field):
                if isinstance(below, type) and issubclass(below, BaseModel):
                    _place_paths(below, value, base, f"{where}{name}.")


def _types(field: FieldInfo) -> tuple[object, ...]:
    return (field.annotation, *get_args(field.annotation))


def _model_of(table: RawTable, union: object) -> type[BaseModel] | None:
    """The member of a union that a table's ``kind`` names; ``None`` if there is none: then the models complain."""
    members = list(_members(union))
    kind = table.get("kind", members[0].model_fields["kind"].default if len(members) == 1 else None)
    return next((member for member in members if member.model_fields["kind"].default == kind), None)


def _members(union: object) -> Iterator[type[BaseModel]]:
    if isinstance(union, type) and issubclass(union, BaseModel):
        yield union
    else:
        for part in get_args(union):
            yield from _members(part)
