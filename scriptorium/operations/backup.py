"""Taking a backup, step by step: the work of the flow's tasks, callable without Prefect.

An ``Order`` says what is to be taken; every step receives it with the settings and returns a frozen record. The
steps in order: ``place_order``, ``running`` (lock, record, staging folder; the rest happens inside), ``require_room``,
``stage_source`` for each source, ``pack_archive``, ``check_archive``, ``store_copy`` for each store.
"""

from __future__ import annotations

import contextlib
import platform
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from scriptorium import __version__, quiesce, workspace
from scriptorium.archive import pack
from scriptorium.archive.verification import verified
from scriptorium.catalog import begin_run, finish_run, interrupted
from scriptorium.errors import DamageFound, LibraryBusy, ScriptoriumError, SourceDamaged, StoreUnavailable, UsageError
from scriptorium.failpoints import reach
from scriptorium.manifest import archive_name, dumps, new_id
from scriptorium.members import Stream
from scriptorium.model import (
    Annotations,
    Backup,
    BackupType,
    Check,
    Compression,
    Copy,
    FileEntry,
    FileList,
    Manifest,
    Staged,
    Status,
    Tier,
    Verification,
)
from scriptorium.restore import recover
from scriptorium.restore.proof import all_answers, fulfilled, missing_files
from scriptorium.settings import Settings
from scriptorium.sources import AnySource, Streamable
from scriptorium.stores import Store
from scriptorium.stores.objects.layout import commit, discard_unfinished, free_name, write_annotations
from scriptorium.workspace.space import Space, find_space

Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Order:
    """A backup that is to be taken: decided once, handed to every step."""

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
    archive: str

    def backup(self, status: Status) -> Backup:
        """The order as the catalog lists it."""
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


def place_order(
    settings: Settings,
    library: str | None = None,
    type: BackupType | None = None,
    tier: Tier = Tier.MANUAL,
    *,
    name: str = "",
    description: str = "",
    to: Sequence[str] = (),
    compression: Compression | None = None,
    now: datetime | None = None,
) -> Order:
    """Decide what is to be taken. ``type``: the tier's own when none is given.

    ``NotFound`` and ``UsageError`` say what cannot be meant.
    """
    chosen = settings.library(library)
    chosen.require_no_doubt()
    type = type or settings.type_of(tier)
    sources = chosen.sources_of(type)
    stores = settings.targets(tier, to)
    created = (now or datetime.now(UTC)).replace(microsecond=0)
    kind = next((source.kind for source in sources if source.role == "database"), None)
    packing = compression or settings.compression
    tie, archive = 0, archive_name(type, created, packing, kind)
    while not all(_is_free(store, chosen.name, archive) for store in stores):
        tie = max(tie + 1, 2)
        archive = archive_name(type, created, packing, kind, tie)
    return Order(
        id=new_id(),
        library=chosen.name,
        preset=chosen.preset,
        type=type,
        tier=tier,
        name=_plain(name) or archive.partition(".tar")[0],
        description=description.strip(),
        created_at=created,
        compression=packing,
        sources=tuple(source.name for source in sources),
        stores=tuple(store.name for store in stores),
        archive=archive,
    )


def _is_free(store: Store, library: str, archive: str) -> bool:
    """A store that does not answer now takes part all the same: the others must not go without their copy."""
    try:
        return free_name(store, library, archive)
    except StoreUnavailable:
        return True


def _plain(name: str) -> str:
    name = name.strip()
    if name == "latest":
        raise UsageError("'latest' means the newest backup; give this one another name", on=name)
    if len(name) > 200 or any(ord(letter) < 32 for letter in name):
        raise UsageError("a backup's name is one line of at most 200 characters", on=repr(name[:40]))
    return name


@contextlib.contextmanager
def running(settings: Settings, order: Order) -> Iterator[Path]:
    """Everything that surrounds a backup: the lock, the record that it runs, its staging folder (yielded)."""
    with workspace.lock(settings, order.library, f"{order.type} backup {order.id}"):
        reach("take.locked")
        recover(settings, settings.library(order.library))
        _clear_former_runs(settings, order.library)
        if not all(_is_free(settings.store(store), order.library, order.archive) for store in order.stores):
            raise LibraryBusy("another backup of this very second was just taken", on=order.library, hint="try again")
        try:
            begin_run(settings, order.backup(Status.RUNNING))
            reach("take.recorded")
            with workspace.staging(settings, order.library, order.id) as folder:
                reach("take.staging")
                yield folder
                reach("take.stored")
        except Exception as error:
            said = error.exact if isinstance(error, ScriptoriumError) else str(error)
            finish_run(settings, order.backup(Status.FAILED), Status.FAILED, said)
            raise
        except BaseException:
            finish_run(settings, order.backup(Status.CANCELLED), Status.CANCELLED, "the run was cancelled")
            raise
        reach("take.tidied")
        finish_run(settings, order.backup(Status.COMPLETE), Status.COMPLETE)
        reach("take.finished")


def _clear_former_runs(settings: Settings, library: str) -> None:
    """What runs that were cut short left in the stores goes now; a store that does not answer is swept another time."""
    for run in interrupted(settings, library):
        for store in settings.stores.values():
            with contextlib.suppress(StoreUnavailable):
                discard_unfinished(store, library, run.created_at)


def decide_space(settings: Settings, order: Order) -> Space:
    """Check that the workroom and the local stores can take the backup; decides which sources are streamed for that."""
    return find_space(settings, settings.library(order.library), order.sources, order.stores, order.compression)


def stage_source(settings: Settings, order: Order, source: str, folder: Path, space: Space | None = None) -> Staged:
    """Snapshot one source into its own folder below ``folder``; what a former try left there is removed.

    One that ``room`` says is streamed is left to ``pack_archive``.
    """
    chosen = _source(settings, order, source)
    if space is not None and source in space.streamed:
        now = datetime.now(UTC)
        return Staged(source, chosen.kind, chosen.place, "streamed", now, now, (), pending=True)
    stage = _stage(folder, source)
    reach("take.before-snapshot")
    staged = quiesce.snapshot(chosen, stage, settings.never_of(settings.library(order.library), chosen))
    reach("take.after-snapshot")
    return staged


def _source(settings: Settings, order: Order, name: str) -> AnySource:
    return next(one for one in settings.library(order.library).sources if one.name == name)


def _stage(folder: Path, source: str) -> Path:
    stage = folder / f"source-{source}"
    workspace.empty_folder(stage)
    return stage


def pack_archive(
    settings: Settings, order: Order, staged: Sequence[Staged], folder: Path, *, advance: Advance | None = None
) -> Manifest:
    """Write the archive into ``folder`` in one pass; returns its manifest.

    What is streamed is held still from before the first byte until it has been read: no file that is read here is
    older than what a database says of it.
    """
    spool = folder / "spool"
    workspace.empty_folder(spool)
    ready = [one for one in staged if not one.pending]
    with _streams(settings, order, staged, folder) as streams:

        def everything() -> list[Staged]:
            return [*(stream.staged() for stream in streams), *ready]

        def judge(entries: Iterator[FileEntry]) -> tuple[Check, ...]:
            parts = everything()
            answers = all_answers(one.answers for one in parts)  # those of a stream come with its end
            found = fulfilled(order.preset, answers, entries, parts)
            saving = order.tier is Tier.BEFORE_RESTORE  # what lacks files is what the restore is to mend
            if settings.library(order.library).missing_files == "error" and not saving:
                _refuse_without_files(order, found)
            return found

        reach("take.before-pack")
        manifest = pack(
            folder / order.archive,
            _draft(order, everything()),
            ready,
            order.compression,
            spool=spool,
            streams=streams,
            judge=judge,
            advance=advance,
        )
        reach("take.packed")
    return manifest


@contextlib.contextmanager
def _streams(settings: Settings, order: Order, staged: Sequence[Staged], folder: Path) -> Iterator[list[Stream]]:
    """The snapshots of what is streamed: they last as long as the block, and a second try takes new ones."""
    with contextlib.ExitStack() as opened:
        streams: list[Stream] = []
        for one in staged:
            if one.pending:
                source = _source(settings, order, one.source)
                assert isinstance(source, Streamable)
                streams.append(opened.enter_context(source.stream(_stage(folder, one.source))))
        yield streams


def _draft(order: Order, staged: Sequence[Staged]) -> Manifest:
    return Manifest(
        id=order.id,
        library=order.library,
        preset=order.preset,
        type=order.type,
        tier=order.tier,
        name=order.name,
        description=order.description,
        created_at=order.created_at,
        finished_at=order.created_at,
        host=socket.gethostname(),
        scriptorium_version=__version__,
        tools={"python": platform.python_version(), **_engines(staged)},
        parts=(),
        files=FileList(count=0, sha256="", entries=()),
        archive=None,
    )


def _refuse_without_files(order: Order, found: Sequence[Check]) -> None:
    """What else a library does not fulfil is a warning of its backup, which is taken all the same."""
    if missing := missing_files(order.preset, found):
        raise SourceDamaged(
            "; ".join(map(str, missing)),
            on=order.library,
            hint='bring the files back, or set missing_files = "warn" to back the library up as it is',
        )


def _engines(staged: Sequence[Staged]) -> dict[str, str]:
    return {one.kind: one.engine_version for one in staged if one.engine_version}


def check_archive(
    settings: Settings, order: Order, manifest: Manifest, folder: Path, *, advance: Advance | None = None
) -> Verification:
    """Read the finished archive back from disk and compare every hash. ``DamageFound`` when it is not sound."""
    file = folder / order.archive
    workspace.forget_cached(file)
    reach("take.before-check")
    verification = verified(
        lambda: file.open("rb"), dumps(manifest), name=order.archive, size=file.stat().st_size, advance=advance
    )
    if not verification.sound:
        raise DamageFound(
            "the archive that was just written does not read back as it was written",
            on=order.archive,
            hint="; ".join(verification.damage[:3]) + " — check the disk and the memory of this machine",
        )
    return verification


def store_copy(
    settings: Settings, order: Order, manifest: Manifest, verification: Verification | None, folder: Path, store: str
) -> Copy:
    """Upload the archive, then its manifest (the commit), then what is known of it."""
    place = settings.store(store)
    key = commit(place, folder / order.archive, manifest)
    reach("take.before-marks")
    if verification is not None:
        write_annotations(place, key, Annotations(verification=verification))
    size = manifest.archive.bytes if manifest.archive else 0
    status = Status.VERIFIED if verification is not None else Status.COMPLETE
    if manifest.unsaved_count:
        status = Status.DEGRADED
    return Copy(store=store, key=key, bytes=size, status=status, verified_at=verification.at if verification else None)


def finished(order: Order, manifest: Manifest, copies: Sequence[Copy]) -> Backup:
    """The backup as it is now listed."""
    status = Status.VERIFIED if all(copy.status is Status.VERIFIED for copy in copies) else Status.COMPLETE
    if manifest.unsaved_count:
        status = Status.DEGRADED
    return replace(
        order.backup(status),
        bytes=manifest.archive.bytes if manifest.archive else 0,
        copies=tuple(copies),
        parts=tuple(part.source for part in manifest.parts),
        warnings=len(manifest.warnings),
        unsaved=manifest.unsaved_count,
    )


def without_copies(backup: Backup, failed: Mapping[str, ScriptoriumError]) -> ScriptoriumError:
    """The error of a backup that is safe in some of its stores and missing in others."""
    said = "; ".join(f"{store}: {error}" for store, error in failed.items())
    there = ", ".join(copy.store for copy in backup.copies)
    first = next(iter(failed.values()))
    return type(first)(
        f"the backup {backup.id} is complete in {there}, but has no copy in {', '.join(failed)}",
        on=said,
        hint=first.hint,
    )
