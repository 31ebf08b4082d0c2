"""Taking a backup: the steps, and the recipe that runs them without Prefect (``backup``).

A ``BackupPlan`` holds what was decided. Every step gets it together with the settings, and returns a frozen record. The
steps in their order: ``plan_backup``, ``running`` (lock, record, staging folder; the other steps run inside),
``check_space``, ``stage_source`` for each source, ``read_sources``, ``check_packages``, ``store_copies`` (with
``store_copy`` for each store), ``finished``.
"""

from __future__ import annotations

import contextlib
import logging
import platform
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from scriptorium import __version__, quiesce, workspace
from scriptorium.catalog import begin_run, finish_run, interrupted, note_missing, runs
from scriptorium.catalog.run_progress import recorded
from scriptorium.catalog.status import status_of
from scriptorium.errors import STORE_TROUBLE, LibraryBusy, ScriptoriumError, SourceDamaged
from scriptorium.failpoints import reach
from scriptorium.manifest import new_id
from scriptorium.members import Stream
from scriptorium.model import Backup, Check, Copy, FileEntry, FileList, Manifest, MissingCopy, Staged, Verification
from scriptorium.operations.completion import complete_earlier
from scriptorium.operations.copies import Prepared, check, free_label, is_free, prepare, put
from scriptorium.operations.copy import copy_one
from scriptorium.progress import Advance, step
from scriptorium.requests import BackupRequest
from scriptorium.restore import recover
from scriptorium.restore.proof import all_answers, fulfilled, missing_files
from scriptorium.results import BackupResult
from scriptorium.settings import Settings
from scriptorium.sources import AnySource
from scriptorium.sources.abilities import streamable
from scriptorium.stores import Packaging
from scriptorium.words import BackupType, Compression, Status, Tier
from scriptorium.workspace.containment import contained
from scriptorium.workspace.space import Space, find_space

log = logging.getLogger(__name__)

_LOGGED = 50  # warnings of a backup; its manifest has all of them


@dataclass(frozen=True, slots=True)
class BackupPlan:
    """A backup that is to be taken: decided once, passed to every step. ``label``: its name in the stores."""

    id: str
    library: str
    preset: str | None
    type: BackupType
    tier: Tier
    name: str
    description: str
    created_at: datetime
    compression: Compression
    sources: tuple[str, ...]
    stores: tuple[str, ...]
    label: str
    began: float = field(default_factory=time.monotonic, compare=False)

    def backup(self, status: Status) -> Backup:
        """What is planned, as the catalog lists it."""
        return Backup(
            id=self.id,
            name=self.name,
            library=self.library,
            type=self.type,
            tier=self.tier,
            created_at=self.created_at,
            description=self.description,
            bytes=0,
            status=status,
        )

    def intended(self, status: Status) -> Backup:
        """The same, with the stores that are to get a copy."""
        return replace(self.backup(status), missing=tuple(map(MissingCopy, self.stores)))


def backup(
    settings: Settings, request: BackupRequest, *, advance: Advance | None = None, now: datetime | None = None
) -> BackupResult:
    """The whole recipe without Prefect. If a store has no copy at the end, the backup is degraded."""
    return take(settings, plan_backup(settings, request, now=now), advance=advance)


def take(settings: Settings, plan: BackupPlan, *, advance: Advance | None = None) -> BackupResult:
    """Carry out a plan."""
    with running(settings, plan) as folder:
        space = check_space(settings, plan)
        staged = [stage_source(settings, plan, source, folder, space) for source in plan.sources]
        prepared = read_sources(settings, plan, staged, folder, space, advance=advance)
        checked = check_packages(prepared, advance=advance)
        copies, failed = store_copies(
            settings, plan, lambda store: store_copy(settings, plan, prepared, checked, store)
        )
    result = finished(plan, prepared, copies, failed)
    return complete_earlier(settings, result, lambda planned: copy_one(settings, planned, advance=advance))


def check_request(settings: Settings, request: BackupRequest) -> None:
    """``NotFound`` and ``UsageError`` if the request does not fit the settings."""
    chosen = settings.library(request.library)
    chosen.require_no_doubt()
    chosen.sources_of(request.type or settings.type_of(request.tier))
    settings.targets(request.tier, request.to)


def plan_backup(settings: Settings, request: BackupRequest, *, now: datetime | None = None) -> BackupPlan:
    """Decide what is saved and its name. ``NotFound`` and ``UsageError`` if the request does not fit the settings."""
    check_request(settings, request)
    chosen = settings.library(request.library)
    type = request.type or settings.type_of(request.tier)
    sources = chosen.sources_of(type)
    stores = settings.targets(request.tier, request.to)
    created = (now or datetime.now(UTC)).replace(microsecond=0)
    kind = next((source.kind for source in sources if source.role == "database"), None)
    label = free_label(stores, chosen.name, type, created, kind)
    plan = BackupPlan(
        id=new_id(),
        library=chosen.name,
        preset=chosen.preset,
        type=type,
        tier=request.tier,
        name=request.name or label,
        description=request.description,
        created_at=created,
        compression=request.compression or settings.compression,
        sources=tuple(source.name for source in sources),
        stores=tuple(store.name for store in stores),
        label=label,
    )
    log.info(
        "backup %s of %s: type %s, tier %s, of %s, to %s as %s",
        *(plan.id, plan.library, plan.type, plan.tier, ", ".join(plan.sources), ", ".join(plan.stores), plan.label),
    )
    return plan


@contextlib.contextmanager
def running(settings: Settings, plan: BackupPlan) -> Iterator[Path]:
    """The surroundings of a backup: the lock, the record that it runs, its staging folder (yielded)."""
    with contained(), workspace.lock(settings, plan.library, f"{plan.type} backup {plan.id}"):
        reach("take.locked")
        recover(settings, settings.library(plan.library))
        _clear_interrupted_runs(settings, plan.library)
        if not all(is_free(settings.store(store), plan.library, plan.label) for store in plan.stores):
            raise LibraryBusy("another backup was taken in the same second", on=plan.library, hint="try again")
        try:
            begin_run(settings, plan.intended(Status.RUNNING))
            reach("take.recorded")
            with (
                recorded(settings, plan.id, "backup", plan.library),
                workspace.staging(settings, plan.library, plan.id) as folder,
            ):
                reach("take.staging")
                yield folder
                reach("take.stored")
        except Exception as error:
            reason = error.exact if isinstance(error, ScriptoriumError) else str(error)
            finish_run(settings, plan.intended(Status.FAILED), Status.FAILED, reason)
            raise
        except BaseException:
            finish_run(settings, plan.intended(Status.CANCELLED), Status.CANCELLED, "the run was cancelled")
            raise
        reach("take.tidied")
        _conclude(settings, plan)
        reach("take.finished")


def _conclude(settings: Settings, plan: BackupPlan) -> None:
    """The record of a run that could not make every copy stays."""
    (missing,) = [run.missing for run in runs(settings) if run.id == plan.id] or [()]
    status = Status.DEGRADED if missing else Status.COMPLETE
    finish_run(settings, replace(plan.backup(status), missing=missing), status)


def _clear_interrupted_runs(settings: Settings, library: str) -> None:
    """Remove what runs that were cut short left in the stores. A store that does not answer is swept later, and so is
    one into which a copy goes now: it may be a copy of the same backup."""
    busy = workspace.being_read(settings)
    for run in interrupted(settings, library):
        log.warning("the backup %s was cut short; what it left in the stores is removed", run.id)
        for store in (one for one in settings.stores.values() if workspace.receiver(one.name) not in busy):
            with contextlib.suppress(*STORE_TROUBLE):
                store.discard_unfinished(library, run.created_at)


def check_space(settings: Settings, plan: BackupPlan) -> Space:
    """Check that the workspace and the stores can take the backup, and decide which sources are streamed."""
    return find_space(settings, settings.library(plan.library), plan.sources, plan.stores, plan.compression)


def stage_source(settings: Settings, plan: BackupPlan, source: str, folder: Path, space: Space | None = None) -> Staged:
    """Snapshot one source into its own folder below ``folder``; what an earlier attempt left there is removed.

    A source that is streamed (see ``space``) is only noted here; ``read_sources`` reads it.
    """
    chosen = _source(settings, plan, source)
    if space is not None and source in space.streamed:
        now = datetime.now(UTC)
        return Staged(source, chosen.kind, chosen.place, "streamed", now, now, (), pending=True)
    stage = _stage(folder, source)
    reach("take.before-snapshot")
    with step("snapshot of", source):
        staged = quiesce.snapshot(chosen, stage, settings.never_of(settings.library(plan.library), chosen))
    reach("take.after-snapshot")
    return staged


def _source(settings: Settings, plan: BackupPlan, name: str) -> AnySource:
    return next(one for one in settings.library(plan.library).sources if one.name == name)


def _stage(folder: Path, source: str) -> Path:
    stage = folder / f"source-{source}"
    workspace.empty_folder(stage)
    return stage


def read_sources(
    settings: Settings,
    plan: BackupPlan,
    staged: Sequence[Staged],
    folder: Path,
    space: Space | None = None,
    *,
    advance: Advance | None = None,
) -> Prepared:
    """Read every source once, into the packages for all stores.

    The snapshot of a streamed source is taken before the first byte is read, and lasts until everything is read. So no
    file that is read here is older than the database rows that refer to it.
    """
    ready = [one for one in staged if not one.pending]
    packagings = dict.fromkeys(settings.store(name).packaging(plan.compression) for name in plan.stores)
    expected = space.bytes if space else None
    with (
        _streams(settings, plan, staged, folder) as streams,
        step("packing", plan.label, expected=expected, also=advance) as moved,
    ):

        def everything() -> list[Staged]:
            return [*(stream.staged() for stream in streams), *ready]

        def judge(entries: Iterator[FileEntry]) -> tuple[Check, ...]:
            parts = everything()
            answers = all_answers(one.answers for one in parts)  # a stream has its answers only at its end
            found = fulfilled(plan.preset, answers, entries, parts)
            saving = plan.tier is Tier.BEFORE_RESTORE  # a restore may be wanted because files are missing
            if settings.library(plan.library).missing_files == "error" and not saving:
                _refuse_without_files(plan, found)
            return found

        reach("take.before-pack")
        prepared = prepare(
            packagings,
            draft_manifest(plan, everything()),
            ready,
            folder,
            plan.label,
            streams=streams,
            judge=judge,
            advance=moved,
            hashes=workspace.hashes_file(settings, plan.library, plan.type),
        )
        reach("take.packed")
    return prepared


@contextlib.contextmanager
def _streams(settings: Settings, plan: BackupPlan, staged: Sequence[Staged], folder: Path) -> Iterator[list[Stream]]:
    """The snapshots of the streamed sources. They last as long as the block; a second attempt takes new ones."""
    with contextlib.ExitStack() as opened:
        streams: list[Stream] = []
        for one in staged:
            if one.pending:
                source = streamable(_source(settings, plan, one.source))
                assert source is not None
                streams.append(opened.enter_context(source.stream(_stage(folder, one.source))))
        yield streams


def draft_manifest(plan: BackupPlan, staged: Sequence[Staged]) -> Manifest:
    """The manifest before anything is read: without parts, files and archive."""
    return Manifest(
        id=plan.id,
        library=plan.library,
        preset=plan.preset,
        type=plan.type,
        tier=plan.tier,
        name=plan.name,
        description=plan.description,
        created_at=plan.created_at,
        finished_at=plan.created_at,
        host=socket.gethostname(),
        scriptorium_version=__version__,
        tools={"python": platform.python_version(), **_engines(staged)},
        parts=(),
        files=FileList(count=0, sha256="", entries=()),
        archive=None,
    )


def _refuse_without_files(plan: BackupPlan, found: Sequence[Check]) -> None:
    """``SourceDamaged`` if rows of the library name files that are missing. Other broken rules are only warnings."""
    if missing := missing_files(plan.preset, found):
        raise SourceDamaged(
            "; ".join(map(str, missing)),
            on=plan.library,
            hint='restore the files, or set missing_files = "warn" to back the library up as it is',
        )


def _engines(staged: Sequence[Staged]) -> dict[str, str]:
    return {one.kind: one.engine_version for one in staged if one.engine_version}


def check_packages(prepared: Prepared, *, advance: Advance | None = None) -> Mapping[Packaging, Verification]:
    """Read the packages back from disk. ``DamageFound`` if one is not sound."""
    reach("take.before-check")
    return check(prepared, advance=advance)


def store_copy(
    settings: Settings, plan: BackupPlan, prepared: Prepared, checked: Mapping[Packaging, Verification], store: str
) -> Copy:
    """Put the backup into a store. ``DamageFound`` if the copy is not sound."""
    target = settings.store(store)
    workspace.require_mounted(settings, target)
    with step("storing in", store):
        copy = put(target, plan.compression, prepared, checked)
    workspace.note_mounted(settings, target)
    return copy


def store_copies(
    settings: Settings, plan: BackupPlan, store_one: Callable[[str], Copy]
) -> tuple[tuple[Copy, ...], Mapping[str, ScriptoriumError]]:
    """Put a copy into every store with ``store_one``. A store that fails does not stop the others: what it lacks is
    recorded. If all of them fail, the first error is raised."""
    copies: list[Copy] = []
    failed: dict[str, ScriptoriumError] = {}
    for store in plan.stores:
        try:
            copies.append(store_one(store))
        except ScriptoriumError as error:
            log.warning("no copy in %s: %s", store, error)
            failed[store] = error
    if not copies:
        raise next(iter(failed.values()))
    note_missing(settings, plan.backup(Status.RUNNING), _missing(failed))
    return tuple(copies), failed


def _missing(failed: Mapping[str, ScriptoriumError]) -> tuple[MissingCopy, ...]:
    return tuple(MissingCopy(store, error.exact) for store, error in failed.items())


def finished(
    plan: BackupPlan, prepared: Prepared, copies: Sequence[Copy], failed: Mapping[str, ScriptoriumError]
) -> BackupResult:
    """The result: the backup as it is now listed, its manifest, the stores that failed."""
    manifest, status = prepared.manifest, status_of(copies)
    backup = replace(
        plan.backup(Status.DEGRADED if failed and status.whole else status),
        bytes=copies[0].bytes,
        copies=tuple(copies),
        parts=tuple(part.source for part in manifest.parts),
        warnings=len(manifest.warnings),
        unsaved=manifest.unsaved_count,
        missing=_missing(failed),
    )
    log.info("backup %s is %s, with %d warnings", plan.id, backup.status, len(manifest.warnings))
    for warning in manifest.warnings[:_LOGGED]:
        log.warning("backup %s: %s", plan.id, warning)
    return BackupResult(backup, manifest, dict(failed), time.monotonic() - plan.began)
