"""The version of a store's tool, asked once for each program file."""

from __future__ import annotations

import functools
import re

from scriptorium import process
from scriptorium.errors import ToolMissing


def version_of(name: str, *, oldest: tuple[int, int], package: str, asked: str = "version") -> tuple[int, ...]:
    """The version of ``name`` on the path. ``ToolMissing`` where there is none, or one that is older than ``oldest``.
    ``asked``: the word that makes it print its version; ``package``: what to install."""
    program = process.find_tool(name, package=package)
    version = _printed(program, name, package, asked)
    if version[:2] < oldest:
        raise ToolMissing(
            f"{name} {'.'.join(map(str, version))} is too old",
            on=program,
            hint=f"install {'.'.join(map(str, oldest))} or a newer one",
        )
    return version


@functools.lru_cache(maxsize=8)
def _printed(program: str, name: str, package: str, asked: str) -> tuple[int, ...]:
    output = process.run([program, asked], timeout=60, check=False).stdout.decode("utf-8", "replace")
    found = re.match(rf"{name}\S* v?(\d+)\.(\d+)(?:\.(\d+))?", output)
    if found is None:
        raise ToolMissing(
            f"this program is not {name}, or is broken", on=program, hint=f"install the package {package}"
        )
    return tuple(int(part or 0) for part in found.groups())
