"""The parts of a library of a known kind.

A preset is a module with ``sources(library, variables) -> list of raw source tables``, ``looks_like(folder)`` and a
line of description. It names no source class: the settings' union parses what it returns, exactly as if the user
had written those tables.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from scriptorium.errors import SettingsError
from scriptorium.model import Check
from scriptorium.presets import alexandria, alexandria_rules, bibliotheca
from scriptorium.presets.checks import Answers, DatabaseRules, Files, Held, Places

RawTable = dict[str, object]


@dataclass(frozen=True, slots=True)
class Preset:
    """``sources`` receives the library's own table of the settings (its ``keys``) and the application's variables; the
    keys in ``paths`` are absolute paths. ``doubts``: reasons why the application may use other places; then nothing is
    backed up, and nothing is restored over them. ``checks`` judges the databases' answers together with the files of
    the backup: an empty folder is a fault, a folder that the backup's type leaves out is none. ``missing``: the names
    of the checks that find files which the database names and the backup lacks. ``database``: the rules for a living
    database of PostgreSQL."""

    name: str
    description: str
    keys: frozenset[str]
    sources: Callable[[Mapping[str, object], Mapping[str, str]], list[RawTable]]
    looks_like: Callable[[Path], bool]
    doubts: Callable[[Mapping[str, object], Mapping[str, str]], tuple[str, ...]]
    checks: Callable[[Answers, Files, Places], tuple[Check, ...]]
    missing: frozenset[str]
    paths: frozenset[str] = frozenset({"home"})
    database: DatabaseRules | None = None


PRESETS: Mapping[str, Preset] = {
    "bibliotheca": Preset(
        "bibliotheca",
        bibliotheca.DESCRIPTION,
        bibliotheca.KEYS,
        bibliotheca.sources,
        bibliotheca.looks_like,
        bibliotheca.doubts,
        bibliotheca.checks,
        bibliotheca.MISSING,
        bibliotheca.PATHS,
    ),
    "alexandria": Preset(
        "alexandria",
        alexandria.DESCRIPTION,
        alexandria.KEYS,
        alexandria.sources,
        alexandria.looks_like,
        alexandria.doubts,
        alexandria.checks,
        alexandria.MISSING,
        alexandria.PATHS,
        alexandria_rules.DATABASE,
    ),
}


def preset(name: str) -> Preset:
    """The preset of that name; ``SettingsError`` lists the known ones."""
    try:
        return PRESETS[name]
    except KeyError:
        raise SettingsError(f"there is no preset '{name}'", hint=f"known presets: {', '.join(PRESETS)}") from None


def recognise(folder: Path) -> Preset | None:
    """The preset whose application seems to be installed in this folder."""
    return next((known for known in PRESETS.values() if known.looks_like(folder)), None)


def rules_for(tables: Collection[str]) -> DatabaseRules | None:
    """The rules of the application whose tables are all among these."""
    rules = (known.database for known in PRESETS.values() if known.database is not None)
    return next((one for one in rules if one.tables <= set(tables)), None)


__all__ = [
    "PRESETS",
    "Answers",
    "DatabaseRules",
    "Files",
    "Held",
    "Places",
    "Preset",
    "RawTable",
    "preset",
    "recognise",
    "rules_for",
]
