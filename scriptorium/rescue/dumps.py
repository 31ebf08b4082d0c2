"""Dumps that a restore into a folder unpacked: they must still be loaded into a server."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scriptorium.model import Manifest
from scriptorium.restore.supply import Restored

_GLOBALS = "globals.sql"
_SQL = (".sql", ".sql.gz")


@dataclass(frozen=True, slots=True)
class DumpToLoad:
    """``place``: its folder or file. ``load``: the shell commands that load it as a database with a new name;
    docs/runbook.md, chapter 7, says what to do before and after."""

    database: str
    place: Path
    load: str


def dumps_to_load(manifest: Manifest, restored: Restored) -> Iterator[DumpToLoad]:
    """Every dump that a restore into a folder unpacked. No database driver is needed: the machine may only have
    Python."""
    for part in manifest.parts:
        if part.source not in restored.comparison.waiting:
            continue
        for place in sorted(Path(restored.place, part.path).glob("*")):
            if place.name != _GLOBALS:
                database = place.name.partition(".")[0] if place.is_file() else place.name
                yield DumpToLoad(database, place, _commands(place, f"{database}_new"))


def _commands(place: Path, new: str) -> str:
    name, where = shlex.quote(new), shlex.quote(str(place))
    load = f"pg_restore --exit-on-error -d {name}"
    if place.is_file():
        reader = f"psql -v ON_ERROR_STOP=1 -1 -d {name}" if place.name.endswith(_SQL) else load
        load = f"gunzip -c {where} | {reader}" if place.suffix == ".gz" else f"{reader} < {where}"
    elif (place / "toc.dat").exists():
        load = f"{load} {where}"
    else:
        load = f"cat {where}/dump.* | {load}"
    return f"createdb -T template0 {name} && {load}"
