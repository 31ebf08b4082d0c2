"""A backup into the folder of a store: made under a hidden name, checked there, then renamed."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from scriptorium.archive.writer import sums_line
from scriptorium.errors import DamageFound, ScriptoriumError, StoreRefused, ToolMissing, TransientError
from scriptorium.failpoints import reach
from scriptorium.manifest import dumps, loads_annotations, readable
from scriptorium.members.comparison import ALTERED, MISSING
from scriptorium.members.ledger import SUMS
from scriptorium.model import FileEntry, Finding, Verification
from scriptorium.progress import step
from scriptorium.stores.trees.corrections import corrected
from scriptorium.stores.trees.package import TreePackage
from scriptorium.stores.trees.record import MEMBERS, TREES, dump_places, parse_lines
from scriptorium.stores.trees.rsync.generations import (
    ANNOTATIONS,
    CARD,
    CONTENTS,
    MANIFEST,
    PARTIAL,
    UNFINISHED,
    Seen,
    bases,
    card_of,
    hidden_name,
)
from scriptorium.stores.trees.rsync.lookup import GenerationLookup
from scriptorium.stores.trees.rsync.program import Rsync
from scriptorium.stores.trees.rsync.site import Keeps, Site
from scriptorium.stores.trees.rsync.transfer import Earlier, Sent, Transfer, folders_of

log = logging.getLogger(__name__)

_NAMED = 3


@dataclass(frozen=True, slots=True)
class Base:
    """An earlier backup that unchanged files are linked to. ``damaged``: by what is known of it."""

    name: str
    earlier: Earlier
    damaged: bool


def save(site: Site, program: Rsync, package: TreePackage, seen: Sequence[Seen], *, checksum: bool) -> Verification:
    """Put a backup whose label is free. ``seen``: what there is of its library."""
    library = package.manifest.library
    folder = f"{library}/{hidden_name(package.label, PARTIAL)}"
    try:
        verification = _made(site, program, package, folder, seen, checksum=checksum)
        reach("rsync.before-rename")
        _publish(site, folder, f"{library}/{package.label}")
        reach("rsync.after-rename")
    except TransientError:
        raise  # what arrived is linked to by the next try
    except Exception:
        with contextlib.suppress(ScriptoriumError):  # it may be what fills the store, or is wrong
            site.remove(folder)
        raise
    for one in seen:
        if one.is_partial and one.label in (package.label, UNFINISHED):
            site.remove(one.path)
    return verification


def _made(
    site: Site, program: Rsync, package: TreePackage, folder: str, seen: Sequence[Seen], *, checksum: bool
) -> Verification:
    keeps = site.prepare(folder, folders_of(package))
    _require_names(site, package, keeps)
    base = _base(site, package, seen) if keeps.links else None
    partial = [one.name for one in seen if one.is_partial] if keeps.links else []
    names = [base.name, *partial] if base else partial
    checksum = checksum or (base is not None and base.damaged)
    transfer = Transfer(site, program, package, folder, names, keeps, checksum=checksum)
    earlier = base.earlier if base else Earlier()
    reach("rsync.before-contents")
    with step("sending by rsync", package.label, expected=package.contents or None) as moved:
        sent = transfer.run(earlier, moved)
    reach("rsync.after-contents")
    package = corrected(package, GenerationLookup(site, f"{folder}/{CONTENTS}"), incomplete=sent.incomplete)
    new = _new(package, earlier, sent)
    at, began = datetime.now(UTC).replace(microsecond=0), time.monotonic()
    findings = _compared(site, package.label, folder, new)
    if findings:  # an unfinished backup may have had another state of a file
        log.warning("sent again: %s", "; ".join(str(one) for one in list(findings.values())[:_NAMED]))
        wrong = {path: new[path] for path in findings}
        with step("sending by rsync again", package.label) as moved:
            transfer.again(wrong, moved)
        findings = _compared(site, package.label, folder, wrong)
    if findings:
        _forget(site, seen)
        damage = [str(one) for one in list(findings.values())[:_NAMED]]
        raise DamageFound("what was just stored reads back differently", on=site.name, findings=damage)
    _describe(site, _with_warnings(package, keeps), transfer, sum(entry.size for entry in new.values()))
    return Verification(at, True, (), time.monotonic() - began)


def _base(site: Site, package: TreePackage, seen: Sequence[Seen]) -> Base | None:
    """The best earlier backup whose record can be read."""
    for one in bases(seen, package.manifest):
        try:
            with site.fetched(one.path, (MEMBERS, ANNOTATIONS)) as files, files[MEMBERS].open("rb") as lines:
                return Base(one.name, Earlier.of(parse_lines(lines)), _is_damaged(files.get(ANNOTATIONS)))
        except (KeyError, DamageFound) as error:
            log.warning("nothing is linked to %s: %s", one.path, error)
    return None


def _is_damaged(annotations: Path | None) -> bool:
    """Whether nobody knows that a backup is sound."""
    if annotations is None:
        return True
    try:
        known = loads_annotations(annotations.read_bytes())
    except (DamageFound, ToolMissing):
        return True
    return known.verification is None or not known.verification.sound


def _require_names(site: Site, package: TreePackage, keeps: Keeps) -> None:
    """``StoreRefused`` where two files would be one."""
    if keeps.case:
        return
    seen: dict[str, str] = {}
    for line in package.lines():
        other = seen.setdefault(line.entry.path.casefold(), line.entry.path)
        if other != line.entry.path:
            raise StoreRefused(
                "the filesystem of the store takes two names for one",
                on=f"{readable(other)}, {readable(line.entry.path)}",
                hint="use another filesystem, or a store of another kind",
            )


def _new(package: TreePackage, earlier: Earlier, sent: Sent) -> dict[str, FileEntry]:
    """The files that are not known to be what the earlier backup holds."""
    new: dict[str, FileEntry] = {}
    renamed = set[str]()  # written under a further name
    for line in package.lines():
        entry = line.entry
        if entry.kind == "file" and (entry.path in sent.paths or not earlier.has(line)):
            new[entry.path] = entry
        elif entry.kind == "hardlink" and entry.path in sent.paths and entry.target not in new:
            renamed.add(entry.target or "")
    if renamed:
        new |= {line.entry.path: line.entry for line in package.lines() if line.entry.path in renamed}
    return new


def _compared(site: Site, label: str, folder: str, new: Mapping[str, FileEntry]) -> dict[str, Finding]:
    """What is not there as it was read, by its path."""
    files = {path: entry.size for path, entry in new.items()}
    with step("reading back", label, expected=sum(files.values()) or None) as moved:
        found = dict(site.hashes(f"{folder}/{CONTENTS}", files, moved, written=True))
    wrong = {path: entry for path, entry in new.items() if found.get(path) != entry.sha256}
    return {path: _finding(entry, found.get(path)) for path, entry in wrong.items()}


def _finding(entry: FileEntry, sha256: str | None) -> Finding:
    if sha256 is None:
        return Finding(MISSING, readable(entry.path))
    detail = f"sha256 should be {(entry.sha256 or '')[:12]}…, is {sha256[:12]}…"
    return Finding(ALTERED, readable(entry.path), detail)


def _with_warnings(package: TreePackage, keeps: Keeps) -> TreePackage:
    """What the filesystem of the store cannot keep is named; it comes back from the record."""
    missing = []
    if not keeps.links:
        missing.append("the store's filesystem has no hard links: every backup takes its whole size there")
    if not keeps.symlinks and any(line.entry.kind == "symlink" for line in package.lines()):
        missing.append("the store's filesystem has no symlinks: they are in the record alone")
    if not keeps.modes:
        missing.append("the store's filesystem keeps no modes and owners: they are in the record alone")
    if not missing:
        return package
    manifest = dataclasses.replace(package.manifest, warnings=(*package.manifest.warnings, *missing))
    return dataclasses.replace(package, manifest=manifest)


def _describe(site: Site, package: TreePackage, transfer: Transfer, new: int) -> None:
    """What lies beside the contents. It is a backup when the folder gets its name."""
    place = transfer.work
    (place / TREES).write_bytes(dump_places(package.places))
    (place / CARD).write_bytes(card_of(package.manifest, package.contents, new).written())
    (place / MANIFEST).write_bytes(dumps(package.manifest))
    with (place / SUMS).open("wb") as sums:
        for line in package.lines():
            if line.entry.sha256 is not None:
                sums.write(sums_line(line.entry.path, line.entry.sha256))
    reach("rsync.before-manifest")
    site.write(
        transfer.folder, {name: place / name for name in (TREES, CARD, SUMS, MANIFEST)} | {MEMBERS: package.record}
    )


def _publish(site: Site, folder: str, path: str) -> None:
    try:
        site.publish(folder, path)
    except FileExistsError:
        raise StoreRefused(
            "another backup has this name already", on=path, hint="two hosts use one folder; give each its own"
        ) from None


def _forget(site: Site, seen: Sequence[Seen]) -> None:
    """What unfinished backups left may be what is wrong; the next try begins without it."""
    for one in seen:
        if one.is_partial:
            with contextlib.suppress(ScriptoriumError):
                site.remove(one.path)
