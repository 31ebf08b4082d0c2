"""The wanted tables of a backup, and the names of their files."""

from __future__ import annotations

import re
from collections.abc import Sequence

from scriptorium.errors import NotFound, UsageError
from scriptorium.manifest import unrecorded
from scriptorium.model import Manifest, Part
from scriptorium.sources import table_steps
from scriptorium.sources.tables import Wanted

_LISTED = re.compile(r'(?:"(?:[^"]|"")*"|[^,"])+')
_UNSAFE = re.compile(r"[^\w.+-]|^\.")
_SHOWN = 40


def listed(text: str) -> tuple[str, ...]:
    """Split ``A,"B, c"`` into names: a comma in quotes does not separate names."""
    return tuple(name.strip() for name in _LISTED.findall(text) if name.strip())


def tables_of(manifest: Manifest) -> tuple[Wanted, ...]:
    """Every table in the manifest. If a name occurs twice, the name of the file also has the source."""
    found = [(part, name) for part in manifest.parts for name in sorted(part.tables or {})]
    stems = [_stem(part, name) for part, name in found]
    twice = {stem.lower() for stem in stems if [other.lower() for other in stems].count(stem.lower()) > 1}
    used: set[str] = set()
    wanted = []
    for (part, name), called in zip(found, stems, strict=True):
        first = f"{_safe(part.source)}.{called}" if called.lower() in twice else called
        stem, number = first, 1
        while stem.lower() in used:  # on many filesystems, names that differ only in case are the same
            number += 1
            stem = f"{first}-{number}"
        used.add(stem.lower())
        wanted.append(Wanted(part, name, (part.tables or {})[name].rows, stem))
    return tuple(wanted)


def choose(manifest: Manifest, names: Sequence[str]) -> tuple[Wanted, ...]:
    """The tables with these names, each once; without names, all tables.

    A name is as in the manifest, or without its schema if that is unambiguous, or ``source:name``. ``NotFound`` lists
    the tables; ``UsageError`` for a name that means several, or if the manifest records no tables.
    """
    everything = tables_of(manifest)
    if not everything and (unknown := unrecorded(manifest)):
        raise not_recorded(unknown[0])
    if not everything:
        raise NotFound("this backup has no tables", on=manifest.name, hint="take one of type full, data or database")
    chosen = [_named(everything, name) for name in names]
    return tuple({one.stem: one for one in chosen}.values()) or everything


def not_recorded(source: str) -> UsageError:
    """The error for a database that another program saved: its tables are unknown before it is restored."""
    return UsageError(
        "this backup was adopted from another program, in a form without single tables",
        on=source,
        hint="restore it, take a backup of it, and export from that one",
    )


def _named(everything: Sequence[Wanted], name: str) -> Wanted:
    for means in (_is_named, _is_called):
        found = [one for one in everything if means(one, name)]
        if len(found) == 1:
            return found[0]
        if found:
            whole = ", ".join(f"{one.part.source}:{one.table}" for one in found)
            raise UsageError(f"'{name}' means several tables", hint=f"name one of: {whole}")
    names = ", ".join(one.table for one in everything[:_SHOWN])
    more = f" and {len(everything) - _SHOWN} more" if len(everything) > _SHOWN else ""
    raise NotFound("there is no such table in the backup", on=name, hint=f"there are: {names}{more}")


def _is_named(one: Wanted, name: str) -> bool:
    return name in (one.table, f"{one.part.source}:{one.table}")


def _is_called(one: Wanted, name: str) -> bool:
    """Whether the name is the table's without schema or without quotes."""
    bare = name.removeprefix(f"{one.part.source}:")
    steps, asked = table_steps(one.part, one.table), table_steps(one.part, bare)
    return bare in (steps[-1], ".".join(steps)) or asked in (steps, steps[-1:])


def _stem(part: Part, name: str) -> str:
    return ".".join(_safe(step).replace(".", "%2E") for step in table_steps(part, name))


def _safe(name: str) -> str:
    """A name for a file: letters and digits of any script, the rest as ``%20``; never too long for a filesystem."""
    safe = _UNSAFE.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), name)
    return safe if len(safe.encode()) <= 120 else safe.encode()[:120].decode("utf-8", "ignore")
