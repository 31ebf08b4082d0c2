"""The common steps of all restores: unpack the parts of a copy, load them, compare them with the manifest."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from scriptorium import wording
from scriptorium.errors import DamageFound, NotFound
from scriptorium.manifest import readable, uncompared
from scriptorium.members import OWN, Member, compiled, listed_entries, write_members
from scriptorium.model import FileEntry, Manifest, Part, TableFingerprint, Unsaved, Unset
from scriptorium.progress import Advance
from scriptorium.restore.proof import compare_tables
from scriptorium.results import Comparison as Comparison
from scriptorium.results import Restored as Restored
from scriptorium.sources import AS_CONFIGURED, Incoming, RestoreOptions, beside
from scriptorium.sources.abilities import missing_fingerprints, rebuilt_views, waits_for, warnings_of
from scriptorium.stores import BackupStore

log = logging.getLogger(__name__)

EXPORTS = "exports"  # the folder of logical exports in a backup; the folder itself belongs to no part
_NAMES = 3
_UNRECORDED = "it had no fingerprint when it was backed up"


@dataclass(frozen=True, slots=True)
class Supply:
    """A copy to restore from. ``only``: glob patterns that choose members by their paths (empty: all).

    ``options``: the user's options for each kind of source.
    """

    store: BackupStore
    key: str
    manifest: Manifest
    only: tuple[str, ...] = ()
    options: RestoreOptions = AS_CONFIGURED

    @property
    def complete(self) -> bool:
        """Whether the store sends all members, also those that are not wanted."""
        return not self.store.features.partial_read

    def members(
        self, wanted: Callable[[str], bool] | None = None, *, advance: Advance | None = None
    ) -> AbstractContextManager[Iterator[Member]]:
        """The members of the copy; see ``BackupStore.members``."""
        return self.store.members(self.key, wanted, advance=advance)

    def entries(self) -> Iterator[FileEntry]:
        """The members as the manifest lists them; a very long list is read from the store."""
        files = self.manifest.files
        return listed_entries(lambda: self.members(lambda path: path == files.member), files)

    def wants(self, member: str, *, folder: bool = False) -> bool:
        """Whether a pattern chooses the member: by its path, by a folder above it, or by the name of its source."""
        if not self.only:
            return True
        part = part_of(member, self.manifest.parts)
        if part is not None and part.source in self.only:
            return True
        return compiled(*self.only).hold(member, folder)


@dataclass(frozen=True, slots=True)
class Read:
    """The result of unpacking: number of files, their bytes, the sources that they belong to, what could not be set."""

    files: int
    bytes: int
    parts: tuple[str, ...]
    unset: tuple[Unset, ...] = ()


def part_of(member: str, parts: Sequence[Part]) -> Part | None:
    """The part that a member belongs to: the one with the longest path above it. An export belongs to its part."""
    if member == EXPORTS:
        return None
    best: Part | None = None
    length = -1
    for part in parts:
        for path in (part.path, part.export, *beside(part)):
            if path is None or len(path) <= length:
                continue
            if path == "" or member == path or member.startswith(f"{path}/"):
                best, length = part, len(path)
    return best


def wanted(supply: Supply) -> tuple[Part, ...]:
    """The parts of which at least one member is wanted. ``NotFound`` if nothing matches.

    A database is restored completely or not at all. If the list of files is not in the manifest itself, every part of
    files counts as wanted, and a database counts if its path matches.
    """
    manifest = supply.manifest
    if not supply.only:
        return manifest.parts
    if manifest.files.entries is None:
        owners = {p.source for p in manifest.parts if p.tables is None or supply.wants(p.path, folder=True)}
    else:
        owners = {
            owner.source
            for entry in manifest.files.entries
            if supply.wants(entry.path, folder=entry.kind == "folder")
            and (owner := part_of(entry.path, manifest.parts)) is not None
        }
    if not owners:
        raise _no_match(supply)
    return tuple(part for part in manifest.parts if part.source in owners)


def _closed_above(supply: Supply) -> str | None:
    """An unreadable path that may be a folder with wanted members."""
    asked = compiled(*(pattern for pattern in supply.only if "/" in pattern))
    return next((one.path for one in supply.manifest.unsaved if asked.may_match_below(one.path)), None)


def _no_match(supply: Supply) -> NotFound:
    asked = compiled(*supply.only)
    missing = [one.path for one in supply.manifest.unsaved if asked.hold(one.path, False) or asked.hold(one.path, True)]
    hint = "show ID lists its parts"
    if missing:
        hint = f"{readable(missing[0])} could not be read when the backup was taken; another backup may have it"
    elif closed := _closed_above(supply):
        hint = (
            f"{readable(closed)} could not be read when the backup was taken, so its contents are missing; another may "
            "have them"
        )
    return NotFound("nothing in the backup matches", on=", ".join(supply.only), hint=hint)


def read_parts(
    supply: Supply, incoming: Mapping[str, Incoming], roots: Sequence[Path], *, advance: Advance | None
) -> Read:
    """Unpack every wanted member into its part's place, and check its hash. ``incoming``: of the wanted parts.

    ``DamageFound`` if anything differs from the manifest; ``NotFound`` if nothing is wanted.
    """
    manifest = supply.manifest
    received: dict[str, None] = {}

    def place(member: str) -> Path | None:
        part = None if member in OWN else part_of(member, manifest.parts)
        if part is None or part.source not in incoming:
            return None
        if part.tables is None and not supply.wants(member):
            return None
        found = incoming[part.source].receive(member)
        if found is not None:
            received[part.source] = None
        return found

    stand_ins = _stand_ins(supply, place) if supply.only or len(incoming) < len(manifest.parts) else {}

    def receive(member: str) -> Path | None:
        return place(member) or (place(stand_ins[member]) if member in stand_ins else None)

    received.clear()
    with supply.members(lambda member: receive(member) is not None, advance=advance) as members:
        unpacked = write_members(
            members,
            receive,
            roots=tuple(roots),
            expected=manifest.files,
            complete=supply.complete,
            owner=supply.options.ownership,
        )
    if supply.only and not received:
        raise _no_match(supply)
    parts = tuple(part.source for part in manifest.parts if part.source in received)
    log.info("%s: %s files, %s read back", ", ".join(parts), f"{unpacked.files:,}", wording.size(unpacked.bytes))
    return Read(unpacked.files, unpacked.bytes, parts, unpacked.unset)


def _stand_ins(supply: Supply, place: Callable[[str], Path | None]) -> dict[str, str]:
    """For files with several names whose first name is not wanted: the first wanted name, which gets the contents."""
    found: dict[str, str] = {}
    with contextlib.closing(supply.entries()) as entries:  # type: ignore[type-var]
        for entry in entries:
            if entry.kind != "hardlink" or entry.target is None or entry.target in found:
                continue
            if place(entry.path) is not None and place(entry.target) is None:
                found[entry.target] = entry.path
    return found


Loaded = Mapping[str, Mapping[str, TableFingerprint]]


def load_parts(supply: Supply, incoming: Mapping[str, Incoming], sources: Sequence[str]) -> Loaded:
    """Load the parts of these sources, and compare their tables with the manifest; returns the fingerprints of each."""
    parts = [part for part in supply.manifest.parts if part.source in sources]
    loaded: dict[str, Mapping[str, TableFingerprint]] = {}
    for part in parts:
        began = time.monotonic()
        loaded[part.source] = load_part(part, incoming[part.source])
        took = wording.duration(time.monotonic() - began)
        log.info("%s: ready in %s, %d tables", part.source, took, len(loaded[part.source]))
    return loaded


def compared(
    supply: Supply, incoming: Mapping[str, Incoming], loaded: Loaded
) -> tuple[dict[str, TableFingerprint], Comparison]:
    """The fingerprints of the loaded parts, and what was compared. Call it after the switch: some parts are compared
    only then."""
    tables: dict[str, TableFingerprint] = {}
    equal, not_compared, waiting = 0, dict[str, str](), dict[str, str]()
    for part in supply.manifest.parts:
        if part.source not in loaded:
            continue
        one = incoming[part.source]
        found = {name: held for name, held in loaded[part.source].items() if name not in _not_comparable(one)}
        missing = {**part.missing_fingerprints, **missing_fingerprints(one)}
        if program := waits_for(one):
            waiting[part.source] = program
        elif "" in missing or (not part.plain_files and part.tables is None):
            not_compared[part.source] = missing.get("", _UNRECORDED)
        for name in found:
            if name in (part.tables or {}) and name not in missing and "" not in missing:
                equal += 1
            else:
                not_compared[name] = missing.get(name) or missing.get("") or _UNRECORDED
        tables |= found
    return tables, Comparison(equal, not_compared, waiting)


def load_part(part: Part, incoming: Incoming) -> Mapping[str, TableFingerprint]:
    """Load a part and compare it; returns the tables that are equal to the recorded ones. ``DamageFound`` names the
    first differences."""
    tables = incoming.load()
    findings = compare_tables(part, tables, _not_comparable(incoming))
    if findings:
        raise DamageFound(
            "the restored database is not what was backed up",
            on=part.source,
            findings=[str(finding) for finding in findings[:5]],
        )
    without = part.missing_fingerprints.keys() | _not_comparable(incoming).keys()
    if part.tables is None or "" in without:
        return {}
    return {name: held for name, held in (tables or {}).items() if name not in without}


def lacking(parts: Iterable[Part]) -> tuple[str, ...]:
    """What the backup lacks of these parts: a line for each part, with the first names."""
    return tuple(
        f"{part.source}: the backup lacks {named(part.unsaved, part.unsaved_count)}"
        for part in parts
        if part.unsaved_count
    )


def named(unsaved: Sequence[Unsaved], count: int) -> str:
    """What a backup could not save, in words: the number, and the first names."""
    first = ", ".join(readable(one.path) for one in unsaved[:_NAMES])
    more = ", …" if count > min(len(unsaved), _NAMES) else ""
    return f"{count:,} that could not be read when it was taken ({first}{more})"


def _not_comparable(incoming: Incoming) -> Mapping[str, str]:
    return {**missing_fingerprints(incoming), **rebuilt_views(incoming)}


def restore_warnings(incoming: Mapping[str, Incoming], parts: Sequence[Part] = ()) -> tuple[str, ...]:
    """The warnings of the parts, and what could not be compared."""
    left_out = [f"{source}: {warning}" for source, one in incoming.items() for warning in warnings_of(one)]
    unseen = [
        f"not compared with the snapshot: {line}"
        for part in parts
        if part.source in incoming
        for line in uncompared(part, missing_fingerprints(incoming[part.source]))
    ]
    return (*left_out, *unseen)
