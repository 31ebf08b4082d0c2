"""What an application is told by the files around it: its ``.env`` and its compose files, read and never run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scriptorium.fs.descriptors import read_file

_MARK = "\ufeff"  # of byte order; some editors write one
COMPOSE_FILES = ("docker-compose.override.yml", "docker-compose.yml", "compose.yaml", "compose.yml")
_ASSIGNED = re.compile(r"\s*(?:export\s+)?(?P<key>[A-Za-z_][A-Za-z0-9_.]*)\s*=\s*(?P<value>.*)", re.DOTALL)
_QUOTED = re.compile(r"""(?P<quote>['"])(?P<text>(?:\\.|(?!(?P=quote)).)*)(?P=quote)""", re.DOTALL)
_REFERENCE = re.compile(r"\$\{(?P<braced>[A-Za-z_][A-Za-z0-9_]*)(?::?-(?P<default>[^}]*))?\}|\$(?P<plain>[A-Za-z_]\w*)")
_IN_COMPOSE = re.compile(r"""\s*(?:-\s*)?["']?(?P<key>[A-Z][A-Z0-9_]*)["']?\s*(?:=|:\s)\s*(?P<value>.*)""")
_VOLUME = re.compile(
    r"""\s*-\s*["']?(?P<host>(?:[./~]|\$\{[^}]*\})[^:"']*):(?P<inside>/[^:"']*)(?::[a-zA-Z,]+)?["']?\s*(?:#.*)?"""
)


def env_file(path: Path) -> dict[str, str]:
    """The variables of a ``.env``, as python-dotenv reads them: ``export``, quotes, comments, ``${NAME:-default}`` of
    the file's own names. Bytes that are not UTF-8 hide no other line. Empty where there is no such file."""
    found: dict[str, str] = {}
    for line in _lines(path):
        if match := _ASSIGNED.fullmatch(line):
            text, literal = _value(match["value"].strip())
            found[match["key"]] = text if literal else _filled(text, found)
    return found


def _value(written: str) -> tuple[str, bool]:
    """The value, and whether nothing in it is to be filled in."""
    quoted = _QUOTED.match(written)
    if quoted is None:
        return re.split(r"\s+#", written)[0].strip() if not written.startswith("#") else "", False
    text = re.sub(r"\\(.)", r"\1", quoted["text"])
    return text, quoted["quote"] == "'"


def _filled(text: str, known: Mapping[str, str]) -> str:
    return _REFERENCE.sub(lambda m: known.get(m["braced"] or m["plain"]) or m["default"] or "", text)


def _lines(path: Path) -> list[str]:
    try:
        return read_file(path)[0].decode("utf-8", "surrogateescape").removeprefix(_MARK).splitlines()
    except OSError:
        return []


@dataclass(frozen=True, slots=True)
class Compose:
    """What the compose files beside an application say: variables, and which folder of the host is where inside."""

    file: str
    variables: Mapping[str, str]
    volumes: Sequence[tuple[str, Path]]

    def on_host(self, inside: str) -> Path | None:
        """Where a path of the container lies on this machine; ``None`` where no folder of it is mounted there."""
        for place, host in sorted(self.volumes, key=lambda volume: -len(volume[0])):
            if inside == place or inside.startswith(f"{place.rstrip('/')}/"):
                return host / inside[len(place) :].lstrip("/")
        return None


def compose(home: Path, known: Mapping[str, str]) -> Compose:
    """The compose files in ``home``, an override before the others. ``known``: what ``${NAME}`` in them stands for."""
    variables: dict[str, str] = {}
    volumes: list[tuple[str, Path]] = []
    used = ""
    for name in COMPOSE_FILES:
        for written in _lines(home / name):
            used, line = used or name, _unquoted_item(written)
            if match := _VOLUME.fullmatch(line):
                host = Path(_filled(match["host"], known)).expanduser()
                if match["inside"].rstrip("/") not in {inside for inside, _ in volumes}:
                    volumes.append((match["inside"].rstrip("/"), home / host))
            elif match := _IN_COMPOSE.fullmatch(line):
                text, _ = _value(match["value"].strip())
                variables.setdefault(match["key"], _filled(text, known))
    return Compose(used, variables, tuple(volumes))


def _unquoted_item(line: str) -> str:
    """``- "NAME=value"`` without its quotes."""
    match = re.fullmatch(r"""(\s*-\s*)(["'])(.*)\2\s*(?:#.*)?""", line)
    return f"{match[1]}{match[3]}" if match else line


def links_between(folder: Path, below: Path) -> Iterator[str]:
    """Of the folders from ``folder`` down to ``below``, those that are symbolic links, relative to ``folder``."""
    if not below.is_relative_to(folder):
        return
    for step in (below, *below.parents):
        if step == folder:
            return
        if step.is_symlink():
            yield step.relative_to(folder).as_posix()
