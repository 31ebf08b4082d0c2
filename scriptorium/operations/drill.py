"""Drills: a copy is restored into a scratch folder, compared with its manifest, checked by its preset, and removed.

The result is the proof of the backup; it is kept beside the manifest of the copy that was drilled.

A failed restore is a verdict if the backup itself cannot be restored: its bytes are damaged or would be written outside
their folder, or its bytes are sound and the programs that load them refuse (an index that ``pg_restore`` cannot build,
a database that crashes its engine). Such a verdict counts only if a second attempt, from the copy in the store, has the
same result. Then it replaces an older proof. A database that could not be checked for lack of memory is not comparable,
and the older proof stays.

Every other failure is an error. It says nothing about the backup, and the older proof stays: no space, a store or a
server that does not answer, a library in use, a missing program, a child process that hung or was ended by a signal,
wrong settings. Rights, roles and extensions that the server of the drill lacks are such errors too: the same backup can
be restored on a server that has them, and a backup that counts as damaged would not be chosen when it is needed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from scriptorium import workspace
from scriptorium.catalog import Catalog
from scriptorium.catalog.run_progress import recorded
from scriptorium.errors import (
    STORE_TROUBLE,
    DamageFound,
    KeyMissing,
    NoSpace,
    PermanentError,
    RestoreFailed,
    ScriptoriumError,
    SourceDamaged,
    ToolFailed,
    UnsafeArchive,
    UsageError,
)
from scriptorium.failpoints import reach
from scriptorium.fs.removal import remove_tree
from scriptorium.manifest import entry_line, new_id, parse_entry_line, uncompared, unrecorded
from scriptorium.members import Reread, reread
from scriptorium.model import (
    NOT_COMPARABLE,
    NOT_PROVEN,
    Backup,
    Check,
    Copy,
    FileEntry,
    Manifest,
    Proof,
    TableFingerprint,
)
from scriptorium.progress import Advance, step
from scriptorium.requests import DrillRequest
from scriptorium.restore import Supply, load_part, part_of, read_parts, source_of
from scriptorium.restore.proof import all_answers, compare_checks, fulfilled
from scriptorium.results import DrillResult
from scriptorium.settings import Settings
from scriptorium.sources import Incoming, abilities
from scriptorium.stores.care import require_key
from scriptorium.workspace.containment import contained

log = logging.getLogger(__name__)

_SHOWN = 10
_READ = (DamageFound, UnsafeArchive, RestoreFailed)  # while reading: the copy cannot be restored
_LOADED = (*_READ, ToolFailed, SourceDamaged)  # while loading: the bytes are sound, but a program refuses them


@dataclass(frozen=True, slots=True)
class DrillPlan:
    """A drill that is to be done: the backup, and the copy that is read."""

    id: str
    backup: Backup
    copy: Copy


def drill(settings: Settings, request: DrillRequest, *, advance: Advance | None = None) -> DrillResult:
    """The whole recipe without Prefect."""
    plan = plan_drill(settings, request)
    return DrillResult(plan.backup, run_drill(settings, plan, advance=advance))


def plan_drill(settings: Settings, request: DrillRequest) -> DrillPlan:
    """Find the backup and the copy to drill. ``NotFound``; ``UsageError`` if the backup has no copy; ``KeyMissing``
    if it is encrypted and this host has no key."""
    catalog = Catalog(settings)
    backup = catalog.find(request.reference, library=request.library)
    if not backup.copies:
        raise UsageError("this backup has no copy to drill", on=backup.id, hint=f"it is {backup.status}")
    copy = catalog.copy_of(backup, request.store)
    try:
        require_key(settings.store(copy.store), copy.key)
    except KeyMissing as error:
        raise KeyMissing(error.what, on=error.on, hint="leave the drill to a host that has the key") from error
    return DrillPlan(new_id(), backup, copy)


def run_drill(settings: Settings, plan: DrillPlan, *, advance: Advance | None = None) -> Proof:
    """Restore the copy into a scratch folder, compare, judge, clean up, and keep the proof.

    A backup that cannot be restored is a verdict and not an error: ``proven`` is false, with the first differences. It
    counts only if a second attempt, which reads the copy again, has the same result; ``before`` has what the first one
    found. What prevents the drill itself (no space, no server, no engine) is raised. If the store cannot be written to,
    the proof is not kept (``unkept`` says why); the verdict is the same.
    """
    store = settings.store(plan.copy.store)
    name = workspace.scratch_name(plan.backup.library)  # a backup may begin meanwhile; it clears only its own folder
    with (
        contained(),
        workspace.lock(settings, name, f"drill of {plan.backup.id}"),
        workspace.reading(settings, plan.backup.id),
        workspace.staging(settings, name, plan.id) as scratch,
        recorded(settings, plan.id, "drill", plan.backup.library),
        step("drilling", plan.backup.id, expected=plan.copy.bytes, also=advance) as advance,
    ):
        reach("drill.locked")
        proof = _attempt(settings, plan, scratch, advance)
        if proof.verdict == NOT_PROVEN:
            first, proof = proof, _attempt(settings, plan, scratch, advance)
            proof = replace(proof, before=first.differences)
    log.info("drill of %s: %s; %s", plan.backup.id, proof.verdict, "; ".join(proof.differences[:10]) or "no difference")
    reach("drill.before-annotations")
    try:
        annotations = store.annotations(plan.copy.key)
        if proof.verdict == NOT_COMPARABLE and annotations.proof is not None and annotations.proof.proven:
            return replace(proof, unkept="the proof of an earlier drill is still valid")  # nothing contradicts it
        store.annotate(plan.copy.key, replace(annotations, proof=proof))
    except (*STORE_TROUBLE, NoSpace) as error:  # mounted read-only, or full: the verdict is still returned
        return replace(proof, unkept=error.exact)
    return proof


def _attempt(settings: Settings, plan: DrillPlan, scratch: Path, advance: Advance | None) -> Proof:
    """Restore once into the scratch folder, and return the proof; nothing is left there."""
    at, began = datetime.now(UTC), time.monotonic()
    try:
        with _verdict(*_READ):
            manifest = settings.store(plan.copy.store).manifest(plan.copy.key)
        workspace.require_space(scratch, sum(part.bytes for part in manifest.parts), "the drill")
        rehearsed = _rehearse(settings, plan, manifest, scratch, advance)
        return _proof(plan, manifest, rehearsed, at, time.monotonic() - began)
    except _CannotBeRestored as verdict:
        return _disproof(plan, at, time.monotonic() - began, verdict.error)


class _CannotBeRestored(Exception):
    """The verdict of a drill that ended before anything could be compared."""

    def __init__(self, error: ScriptoriumError) -> None:
        super().__init__(error)
        self.error = error


@contextmanager
def _verdict(*kinds: type[ScriptoriumError]) -> Iterator[None]:
    """Errors of these kinds mean that the backup cannot be restored; all others that the drill could not be done."""
    try:
        yield
    except kinds as error:
        if isinstance(error, ToolFailed) and error.by_signal:
            raise
        raise _CannotBeRestored(error) from error


@dataclass(frozen=True, slots=True)
class _Rehearsed:
    """What was restored: ``tables`` could be compared, and each is equal to its record; ``uncompared`` could not.

    ``looking``: seconds that only a drill needs. ``health``: results of the databases' own checks. The databases
    contain what was saved, so a problem that these checks find was there before. It is reported, and is no difference.
    """

    reread: Reread
    looking: float
    tables: Sequence[TableFingerprint]
    uncompared: tuple[str, ...]
    checks: tuple[Check, ...]
    health: tuple[Check, ...]


def _rehearse(
    settings: Settings, plan: DrillPlan, manifest: Manifest, scratch: Path, advance: Advance | None
) -> _Rehearsed:
    name = plan.backup.library
    library = settings.library(name) if name in settings.libraries else None  # with its records of scratch databases
    known = {source.name: source for source in library.sources} if library else {}
    place = scratch / "restored"
    place.mkdir(mode=0o700)
    supply = Supply(settings.store(plan.copy.store), plan.copy.key, manifest)
    incoming: dict[str, Incoming] = {}
    try:
        for part in manifest.parts:
            source = source_of(part, known, place)
            incoming[part.source] = abilities.rehearsal(source, part, plan.id, place)
            incoming[part.source].prepare()
        reach("drill.prepared")
        with _verdict(*_READ):
            read = read_parts(supply, incoming, [scratch], advance=advance)
        reach("drill.unpacked")
        began = time.monotonic()
        with _verdict(*_READ):
            listed = _listed(supply, scratch)
            reread_files = _reread(manifest, incoming, listed(), scratch)
        looking = time.monotonic() - began
        with _verdict(*_LOADED):
            tables = _load(manifest, incoming, read.parts)
        reach("drill.loaded")
        began = time.monotonic()
        health = (*_health_checks(incoming), *_unsaved(manifest))
        looking += time.monotonic() - began
        answers = all_answers(one.answers for one in incoming.values())
        with _verdict(*_READ):
            checks = fulfilled(manifest.preset, answers, listed(), manifest.parts)
    finally:
        for one in incoming.values():
            one.undo()
        with suppress(OSError):
            remove_tree(place)
    return _Rehearsed(reread_files, looking, tables, _uncompared(manifest, incoming, reread_files), checks, health)


def _listed(supply: Supply, scratch: Path) -> Callable[[], Iterator[FileEntry]]:
    """The manifest's list of files, for repeated reading. A very long list is read from the store once and spooled to
    the disk: a drill of a million files needs no more memory than one of ten thousand."""
    files = supply.manifest.files
    if files.entries is not None:
        entries = files.entries
        return lambda: iter(entries)
    spool = scratch / "listed.jsonl"
    with spool.open("wb") as out:
        out.writelines(map(entry_line, supply.entries()))
    return lambda: _spooled(spool)


def _spooled(spool: Path) -> Iterator[FileEntry]:
    with spool.open("rb") as lines:
        yield from map(parse_entry_line, lines)


def _reread(manifest: Manifest, incoming: Mapping[str, Incoming], listed: Iterator[FileEntry], scratch: Path) -> Reread:
    """Read back what was restored to the scratch folder, before anything uses it. ``DamageFound``."""

    def place(member: str) -> Path | None:
        part = part_of(member, manifest.parts)
        return None if part is None else incoming[part.source].receive(member)

    found = reread(listed, place, roots=[scratch])
    if found.findings:
        raise DamageFound(
            "the restored files are not what was backed up",
            on=found.findings[0].subject,
            findings=[str(finding) for finding in found.findings],
        )
    return found


def _load(manifest: Manifest, incoming: Mapping[str, Incoming], read: Sequence[str]) -> list[TableFingerprint]:
    """Make every part usable; returns the tables that have fingerprints in the manifest, all equal to these."""
    compared: list[TableFingerprint] = []
    for part in manifest.parts:
        if part.source in read:
            compared += load_part(part, incoming[part.source]).values()
        elif part.tables is not None:
            raise RestoreFailed("the backup contains no database", on=part.source)
    return compared


def _health_checks(incoming: Mapping[str, Incoming]) -> Iterator[Check]:
    """The results of the databases' own checks, then the objects that could not be restored unchanged."""
    for name, one in incoming.items():
        found = _health(name, one)
        if found is not None:
            yield found
    for name, one in incoming.items():
        if left_out := abilities.warnings_of(one):
            yield _left_out(name, left_out)


def _health(source: str, restored: Incoming) -> Check | None:
    name = f"database check of {source}"
    try:
        checked = abilities.check(restored)
    except PermanentError:  # no right to run the check
        return Check(name, good=False)
    if checked is None:
        return None
    found = tuple(map(str, checked))
    return Check(name, not found, len(found), found[:_SHOWN])


def _left_out(source: str, found: tuple[str, ...]) -> Check:
    """Objects that could not be restored unchanged because of the data itself (a broken constraint). The data is
    complete."""
    return Check(f"not restored unchanged in {source}", not found, len(found), found[:_SHOWN])


def _unsaved(manifest: Manifest) -> Iterator[Check]:
    """The files that could not be saved, a check for each part. A drill only proves what is in a backup, so it reports
    them."""
    for part in manifest.parts:
        if part.unsaved_count:
            first = tuple(f"{one.path}: {one.reason}" for one in part.unsaved[:_SHOWN])
            yield Check(
                f"could not be saved of {part.source}, and is not in this backup", False, part.unsaved_count, first
            )


def _uncompared(manifest: Manifest, incoming: Mapping[str, Incoming], reread_files: Reread) -> tuple[str, ...]:
    without = [
        line
        for part in manifest.parts
        for line in uncompared(part, abilities.missing_fingerprints(incoming[part.source]))
    ]
    explained = {part.source for part in manifest.parts if part.missing_fingerprints}
    unknown = [
        f"{source}: the backup has no fingerprints of this database"
        for source in unrecorded(manifest)
        if source not in explained
    ]
    nothing = not reread_files.files and not any(part.tables for part in manifest.parts)
    return (*without, *unknown, *(("the backup contains nothing that can be compared",) if nothing else ()))


def _proof(plan: DrillPlan, manifest: Manifest, rehearsed: _Rehearsed, at: datetime, seconds: float) -> Proof:
    worse = compare_checks(manifest.checks, rehearsed.checks)
    return Proof(
        at=at.replace(microsecond=0),
        store=plan.copy.store,
        proven=not worse and not rehearsed.uncompared,
        seconds=round(seconds - rehearsed.looking, 3),
        age_seconds=round((at - manifest.created_at).total_seconds(), 3),
        files=rehearsed.reread.files,
        bytes=rehearsed.reread.bytes,
        tables=len(rehearsed.tables),
        rows=sum(table.rows for table in rehearsed.tables),
        checks=(*rehearsed.checks, *rehearsed.health),
        differences=tuple(str(one) for one in worse[:_SHOWN]),
        uncompared=rehearsed.uncompared,
    )


def _disproof(plan: DrillPlan, at: datetime, seconds: float, error: ScriptoriumError) -> Proof:
    findings = error.findings if isinstance(error, DamageFound) else ()
    hint = (error.hint,) if error.hint else ()
    return Proof(
        at=at.replace(microsecond=0),
        store=plan.copy.store,
        proven=False,
        seconds=round(seconds, 3),
        age_seconds=round((at - plan.backup.created_at).total_seconds(), 3),
        files=0,
        bytes=0,
        tables=0,
        rows=0,
        differences=(error.exact, *(findings or hint))[:_SHOWN],
    )
