"""What the place of a restore does not keep, found out before anything is written there: rows of the preflight."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from scriptorium.errors import UsageError
from scriptorium.fs.free_space import device_of, nearest_folder
from scriptorium.fs.owners import Ownership, user_name
from scriptorium.fs.probing import ATTRIBUTES, HARD_LINKS, LISTS, MODES, OWNERS, SYMLINKS, probe
from scriptorium.fs.system_errors import advice, reason_of
from scriptorium.model import FileEntry
from scriptorium.restore.supply import Supply
from scriptorium.results import PreflightRow

log = logging.getLogger(__name__)

_SPECIAL = 0o6000
# What happens to what cannot be set.
_INSTEAD = {
    OWNERS: "everything belongs to {me}",
    MODES: "files have the modes that the filesystem gives them",
    ATTRIBUTES: "files are restored without their extended attributes",
    LISTS: "modes are narrowed, so that nobody gains access",
    SYMLINKS: "they are left out and named",
    HARD_LINKS: "each further name becomes a file of its own",
}


def target_rows(supply: Supply, folders: Iterable[Path], *, required: bool) -> Iterator[PreflightRow]:
    """Which owners, modes, attributes and links cannot be set in the folders, and why; one probe for each filesystem.
    ``required``: it is an obstacle if a folder cannot be written; else other rows report that."""
    ownership = supply.options.ownership
    yield _owners(ownership)
    needed = _needed(supply)
    seen: set[int] = set()
    for folder in map(nearest_folder, folders):
        if device_of(folder) in seen:
            continue
        seen.add(device_of(folder))
        try:
            found = probe(folder, ownership)
        except OSError as error:
            log.warning("%s: what can be set there could not be tried: %s", folder, error)
            if required:
                yield _cannot_write(folder, error)
            continue
        for what, reason in found.lacks.items():
            if needed.get(what, 1) and (what != OWNERS or os.geteuid() == 0):
                where = f"cannot be set at {folder} ({reason})"
                yield PreflightRow(what, f"{_count(needed.get(what))}{where}: {_then(what)}")
        if not found.runs and needed.get("programs"):
            yield PreflightRow("programs", f"{needed['programs']:,} in the backup; none runs at {folder} (noexec)")
    if needed.get("special") and os.geteuid() != 0:
        found_bits = f"{needed['special']:,} files lose their set-user-id or set-group-id bit: only root keeps it"
        yield PreflightRow("special modes", found_bits)


def _owners(ownership: Ownership) -> PreflightRow:
    if ownership.possible or (ownership.given is None and not ownership.asked):
        return PreflightRow("owners", str(ownership) if ownership.possible else f"everything belongs to {_me()}")
    if ownership.given is None:
        return PreflightRow("owners", f"cannot be kept, only root may give files away: everything belongs to {_me()}")
    trouble = UsageError(
        "only root may give files to another user",
        on=f"--owner {ownership.given[0]}:{ownership.given[1]}",
        hint=f"restore as root, or with --owner me (everything belongs to {_me()})",
    )
    return PreflightRow("owners", str(ownership), trouble)


def _cannot_write(folder: Path, error: OSError) -> PreflightRow:
    reason = reason_of(error)
    trouble = UsageError(
        f"the folder to restore to cannot be made: {reason}", on=str(folder), hint=advice(error, folder)
    )
    return PreflightRow("rights", f"nothing can be made at {folder}", trouble)


def _needed(supply: Supply) -> dict[str, int]:
    """How many wanted entries need what a filesystem may lack. Empty if the manifest does not list the entries; what
    is not in the result at all (attributes, lists) may be needed."""
    entries = supply.manifest.files.entries
    if entries is None:
        return {}
    found = Counter({SYMLINKS: 0, HARD_LINKS: 0, "programs": 0, "special": 0})
    for entry in entries:
        if supply.wants(entry.path, folder=entry.kind == "folder"):
            found.update(_needs(entry))
    return dict(found)


def _needs(entry: FileEntry) -> Iterator[str]:
    if entry.kind == "symlink":
        yield SYMLINKS
    elif entry.kind == "hardlink":
        yield HARD_LINKS
    elif entry.kind == "file":
        if entry.mode & 0o111:
            yield "programs"
        if entry.mode & _SPECIAL:
            yield "special"


def _count(count: int | None) -> str:
    return f"{count:,} in the backup; " if count else ""


def _then(what: str) -> str:
    return _INSTEAD[what].format(me=_me())


def _me() -> str:
    number = os.geteuid()
    return f"{user_name(number) or 'the user'} ({number})"
