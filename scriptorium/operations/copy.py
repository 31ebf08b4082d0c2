"""Copying backups from one store into another, without their sources.

``plan_copy`` decides what goes where, ``copy_one`` makes one copy, ``copy_each`` all of them. A copy is the same
backup: its id, its name, its manifest. It is read and compared on the way, and checked where it arrived.

The library is not held meanwhile. The backup is marked as being read, so that no copy of it is removed; the store is
marked as receiving, so that nothing is swept there.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from scriptorium import wording, workspace
from scriptorium.catalog import forget_missing
from scriptorium.catalog.run_progress import recorded
from scriptorium.catalog.status import judge_copy
from scriptorium.errors import STORE_TROUBLE, DamageFound, NoSpace, ScriptoriumError, StoreUnavailable
from scriptorium.failpoints import reach
from scriptorium.fs.free_space import device_of
from scriptorium.fs.system_errors import advice as advice_of
from scriptorium.fs.system_errors import no_space, reason_of
from scriptorium.manifest import new_id
from scriptorium.model import Annotations, Copy, Verification
from scriptorium.operations.copy_plan import CopyPlan, Source, outcome, plan_copy, readable, stored_before
from scriptorium.progress import Advance, step
from scriptorium.requests import CopyRequest
from scriptorium.results import Copied, CopyResult, PlannedCopy
from scriptorium.settings import Settings
from scriptorium.stores import BackupStore, Package
from scriptorium.stores.care import Transferring, lock_of, whole_manifest
from scriptorium.stores.passing import passed_on
from scriptorium.workspace.containment import contained

log = logging.getLogger(__name__)

_TRIES = 2


class _ArrivedDamaged(DamageFound):
    """What arrived is not what was read: another copy to read would change nothing."""


class _SourceTrouble(Exception):
    """The copy that is read is of no use now; ``reason`` says why."""

    def __init__(self, reason: ScriptoriumError) -> None:
        super().__init__(reason)
        self.reason = reason


def copy(settings: Settings, request: CopyRequest, *, advance: Advance | None = None) -> CopyResult:
    """The whole recipe without Prefect. A copy that could not be made is an error at the end."""
    plan = plan_copy(settings, request)
    with contained():
        result = copy_each(plan, lambda planned: copy_one(settings, planned, advance=advance))
    return result.require_every_copy()


def copy_each(plan: CopyPlan, make: Callable[[PlannedCopy], Copied]) -> CopyResult:
    """Make every copy with ``make``; in a dry run, none. One that fails does not stop the others. A store that is of no
    use twice in a row is not tried again: each try may take minutes."""
    if plan.dry_run:
        return outcome(plan)
    copied: list[Copied] = []
    failed, in_a_row = dict(plan.failed), Counter[str]()
    for planned in plan.copies:
        if in_a_row[planned.to] == _TRIES:
            failed[str(planned)] = StoreUnavailable("not tried any more: the store did not answer", on=planned.to)
            continue
        try:
            copied.append(make(planned))
            in_a_row[planned.to] = 0
        except ScriptoriumError as error:
            log.warning("no copy of %s: %s", planned, error)
            failed[str(planned)] = error
            in_a_row[planned.to] = in_a_row[planned.to] + 1 if isinstance(error, STORE_TROUBLE) else 0
    return outcome(plan, copied, failed)


def copy_one(settings: Settings, planned: PlannedCopy, *, advance: Advance | None = None) -> Copied:
    """Make one copy, and check it where it arrived. If the copy that is read is damaged, or cannot be read, the next
    one is read. ``DamageFound`` if all of them are damaged: then nothing is left in the target."""
    began, backup = time.monotonic(), planned.backup
    name = workspace.copy_name(backup.library, planned.to)
    with (
        workspace.reading(settings, backup.id),
        workspace.reading(settings, workspace.receiver(planned.to)),
        workspace.lock(settings, name, f"copy of {backup.id} into {planned.to}"),
        recorded(settings, backup.id, "copy", backup.library),
    ):
        reach("copy.locked")
        there = planned.unread or (stored_before(settings, planned) if planned.outdated is None else None)
        if there is not None:
            read = _read_back(settings, planned, there)
            if read is not None:
                _remove_outdated(settings, planned)
                return Copied(backup, read, planned.to, time.monotonic() - began, finished=True)
            planned = replace(planned, replaced=there, unread=None)
        errors: list[ScriptoriumError] = []
        for source in readable(settings, planned):
            with workspace.staging(settings, name, new_id()) as folder:
                try:
                    package, verification = _prepared(settings, planned, source, folder, advance)
                    made = _stored(settings, planned, package, verification)
                except _ArrivedDamaged:
                    raise
                except (_SourceTrouble, DamageFound) as error:
                    log.warning("the copy of %s in %s: %s", backup.id, source.copy.store, error)
                    errors.append(error.reason if isinstance(error, _SourceTrouble) else error)
                    continue
            _remove_outdated(settings, planned)
            took = time.monotonic() - began
            log.info("%s is copied from %s in %s", planned, source.copy.store, wording.duration(took))
            return Copied(backup, made, source.copy.store, took, unchanged=source.as_it_is)
        raise next((one for one in errors if isinstance(one, DamageFound)), errors[0])


def _remove_outdated(settings: Settings, planned: PlannedCopy) -> None:
    """What is encrypted for others goes when the new copy is there; one that is locked stays."""
    reach("copy.before-removal")
    target = settings.store(planned.to)
    if planned.outdated is not None and lock_of(target, planned.outdated.key) is None:
        log.info("%s: %s is replaced", planned.to, planned.outdated.key)
        target.remove(planned.outdated.key)


def _prepared(
    settings: Settings, planned: PlannedCopy, source: Source, folder: Path, advance: Advance | None
) -> tuple[Package, Verification | None]:
    """The package, read back where there is something to read. ``DamageFound``; ``_SourceTrouble`` if the copy cannot
    be read."""
    target = settings.store(planned.to)
    where = source.store.location(source.copy.key)
    try:
        package = _package(settings, planned, source, target, folder, advance)
        with step("verifying", str(planned), expected=package.bytes or None) as moved:
            verification = package.check(advance=moved)
    except STORE_TROUBLE as error:
        raise _SourceTrouble(error) from error
    except OSError as error:
        if no_space(error):
            raise NoSpace("the disk became full while the backup was copied", on=str(folder)) from error
        trouble = StoreUnavailable(f"the copy cannot be read: {reason_of(error)}", on=where, hint=advice_of(error))
        raise _SourceTrouble(trouble) from error
    if verification is not None and not verification.sound:
        found = "; ".join(verification.damage[:3])
        raise DamageFound("the copy is damaged", on=where, hint=f"{found}. Use another copy of this backup")
    return package, verification


def _stored(settings: Settings, planned: PlannedCopy, package: Package, known: Verification | None) -> Copy:
    """The package in the target, in the place of a damaged copy, if there is one that is not locked. What is on this
    machine is read back there; of what goes elsewhere the store has compared the checksums, or reads it back itself."""
    target = settings.store(planned.to)
    workspace.require_mounted(settings, target)
    reach("copy.before-put")
    if planned.replaced is not None and lock_of(target, planned.replaced.key) is None:
        target.remove(planned.replaced.key)
    with step("storing in", planned.to):
        stored = target.put(package)
    workspace.note_mounted(settings, target)
    reach("copy.stored")
    log.info("%s: stored as %s, %s", planned.to, stored.key, wording.size(stored.bytes))
    made = Copy(planned.to, stored.key, stored.bytes, planned.backup.status)
    checked = known if target.features.remote else None
    return _checked(settings, planned, made, stored.verification or checked)


def _package(
    settings: Settings,
    planned: PlannedCopy,
    source: Source,
    target: BackupStore,
    folder: Path,
    advance: Advance | None,
) -> Package:
    """The backup, read from its source, ready to be put into the target."""
    store, key = source.store, source.copy.key
    what, size = f"{planned.backup.id} from {source.copy.store}", source.copy.bytes
    reach("copy.before-reading")
    if source.as_it_is and isinstance(target, Transferring):
        needed = target.needs(store, key, source.manifest)
        _require_space(folder, target, needed, size)
        with step("reading", what, expected=needed or None, also=advance) as moved:
            return target.taken(store, key, source.manifest, source.label, folder, advance=moved)
    manifest = whole_manifest(store, key)
    if manifest.id != planned.backup.id:
        raise DamageFound("this is the archive of another backup", on=store.location(key))
    compression = manifest.archive.compression if manifest.archive is not None else settings.compression
    packaging = target.packaging(compression)
    contents, holes = (sum(part.bytes for part in manifest.parts), sum(part.holes for part in manifest.parts))
    estimate = int(packaging.estimate(contents, holes) * settings.space_factor)
    _require_space(folder, target, estimate if packaging.in_workspace else contents - holes, estimate)
    with step("reading", what, expected=size, also=advance) as moved, store.members(key, advance=moved) as members:
        package = passed_on(members, manifest, packaging, folder, source.label, on=store.location(key))
    reach("copy.packed")
    return package


def _require_space(folder: Path, target: BackupStore, staged: int, stored: int) -> None:
    """``NoSpace`` unless the workspace, and the store where it is on this machine, can take it."""
    if staged:
        workspace.require_space(folder, staged, "what is copied")
    if target.folder is None or target.features.deduplicates:
        return
    if staged and target.features.takes_over and device_of(target.folder) == device_of(folder):
        return
    workspace.require_space(target.folder, stored, f"the copy in the store {target.name}")


def _read_back(settings: Settings, planned: PlannedCopy, there: Copy) -> Copy | None:
    """The copy that is there already, after it was read; ``None`` if it is damaged, and another one can replace it."""
    target = settings.store(there.store)
    with step("verifying", str(planned), expected=there.bytes) as moved:
        verification = target.verify(there.key, advance=moved)
    if verification.sound:
        return _noted(settings, planned, there, replace(target.annotations(there.key), verification=verification))
    target.annotate(there.key, replace(target.annotations(there.key), verification=verification))
    if not planned.sources:
        raise DamageFound("the copy there is damaged", on=str(planned), findings=verification.damage[:3])
    return None


def _checked(settings: Settings, planned: PlannedCopy, made: Copy, known: Verification | None) -> Copy:
    """The copy that was just stored, read back. ``DamageFound`` if it is not sound; then it is removed again."""
    target = settings.store(planned.to)
    verification = known
    if verification is None:
        with step("verifying", str(planned), expected=made.bytes) as moved:
            verification = target.verify(made.key, advance=moved)
    if not verification.sound:
        with contextlib.suppress(ScriptoriumError):
            target.remove(made.key)
        raise _ArrivedDamaged(
            "the copy that was just stored reads back differently", on=str(planned), findings=verification.damage[:3]
        )
    return _noted(settings, planned, made, Annotations(verification=verification))


def _noted(settings: Settings, planned: PlannedCopy, made: Copy, known: Annotations) -> Copy:
    """The copy with what is known of it, and with the pin of the others."""
    reach("copy.before-annotations")
    target = settings.store(planned.to)
    annotations = replace(known, pinned=any(_pins(settings, planned)))
    target.annotate(made.key, annotations)
    reach("copy.done")
    forget_missing(settings, planned.backup.id, planned.to)
    status = judge_copy(annotations, unsaved=planned.backup.unsaved).status
    verified_at = annotations.verification.at if annotations.verification else None
    return replace(made, status=status, pinned=annotations.pinned, verified_at=verified_at)


def _pins(settings: Settings, planned: PlannedCopy) -> Iterator[bool]:
    """Whether the other copies are pinned now: the stores are asked, since an index may be outdated."""
    yield planned.backup.pinned
    for one in planned.backup.copies:
        with contextlib.suppress(*STORE_TROUBLE):
            yield settings.store(one.store).annotations(one.key).pinned
