"""What the folder of a store is like: the program, what its filesystem keeps, whether what was put can be removed."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from scriptorium import process
from scriptorium.errors import STORE_TROUBLE, NoSpace
from scriptorium.stores.care import Finding
from scriptorium.stores.trees.rsync.generations import REMOVED, hidden_name
from scriptorium.stores.trees.rsync.program import PROGRAM
from scriptorium.stores.trees.rsync.site import Keeps, Site

_LACKS = {
    "links": ("hard links", "every backup takes its whole size"),
    "symlinks": ("symlinks", "they are in the record alone"),
    "modes": ("modes", "modes and owners are in the record alone"),
    "case": ("names that differ in case alone", "a backup that has two such names is refused"),
}


def examine(site: Site, *, try_delete: bool) -> Iterator[Finding]:
    """Nothing is written without ``try_delete``."""
    yield Finding("program", f"rsync {_version(process.find_tool(PROGRAM, package=PROGRAM))}")
    if not try_delete:
        return
    try:
        keeps = tried(site)
    except (*STORE_TROUBLE, NoSpace) as error:
        yield Finding("writing", f"nothing can be written: {error.exact}", False, error.hint)
        return
    for name, (what, consequence) in _LACKS.items():
        if not getattr(keeps, name):
            yield Finding("filesystem", f"it keeps no {what}", None, consequence)
    yield Finding("removal", "what was put can be removed", None, "nothing locks a folder; a bucket can")


def tried(site: Site) -> Keeps:
    """Make the folder of the store where there is none, and a folder in it, which is removed again."""
    probe = hidden_name("probe", REMOVED)
    keeps = site.prepare(probe, ())
    site.remove(probe)
    return keeps


@functools.lru_cache(maxsize=4)
def _version(program: str) -> str:
    printed = process.run([program, "--version"], timeout=60, check=False).stdout.decode("utf-8", "replace")
    found = re.match(r"rsync +version (\S+)", printed)
    return found[1] if found else "of an unknown version"
