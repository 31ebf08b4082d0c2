"""Adopting a file: recognise it, check whether it is adopted already, repack it, put it into the stores."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from scriptorium import workspace
from scriptorium.catalog import Catalog
from scriptorium.errors import (
    NotFound,
    PermanentError,
    ScriptoriumError,
    SourceUnavailable,
    UnsafeArchive,
    UsageError,
)
from scriptorium.manifest import new_id, readable
from scriptorium.model import Backup, Check, Copy, FileEntry, Manifest, Verification
from scriptorium.operations.adopt import bibliotheca, own, postgres
from scriptorium.operations.adopt import tar as tar_module
from scriptorium.operations.adopt.file_type import Form, form_of, is_folder_dump, why_not
from scriptorium.operations.adopt.staging import Staging
from scriptorium.operations.backup import BackupPlan, draft_manifest
from scriptorium.operations.copies import Prepared, check, free_label, prepare, put
from scriptorium.operations.prune_plan import plan_cleanup
from scriptorium.requests import AdoptRequest
from scriptorium.restore.proof import all_answers, fulfilled
from scriptorium.results import Adopted, AdoptOutcome
from scriptorium.settings import Library, Settings
from scriptorium.sources.abilities import takes_dumps
from scriptorium.stores import BackupStore, Packaging
from scriptorium.umask import usual_files
from scriptorium.words import Tier

log = logging.getLogger(__name__)

_POSTGRES = (Form.SQL, Form.DUMP)
_OF_A_TAR = "; a folder of pg_dump's that was packed: unpack it, and adopt the folder"
_KNOWN = "Bibliotheca's .zip and .tar.gz, pg_dump's custom, tar and directory formats and SQL, archives of this program"


@dataclass(frozen=True, slots=True)
class _Adoption:
    """What is decided for every file: the request, the stores, and the time."""

    settings: Settings
    request: AdoptRequest
    stores: tuple[BackupStore, ...]
    now: datetime


def adopt(settings: Settings, request: AdoptRequest) -> Iterator[AdoptOutcome]:
    """The whole recipe: adopt files one after the other. A file that fails does not stop the others.

    No file is changed. Raises only what concerns all of them (no such store or library), before the first file.
    """
    adoption = _adoption(settings, request)
    for file in [inside for path in request.paths for inside in _archives(path)]:
        try:
            yield AdoptOutcome(file, _adopt(adoption, file))
        except ScriptoriumError as error:
            log.warning("%s is not adopted: %s", file, error)
            yield AdoptOutcome(file, error=error)
        except OSError as error:
            yield AdoptOutcome(
                file, error=PermanentError(f"cannot be read or written ({error.strerror})", on=str(file))
            )


def adopt_one(settings: Settings, request: AdoptRequest) -> Adopted:
    """Adopt the only file of the request.

    Raises ``UsageError`` (not an archive, adopted already), ``DamageFound``,
    ``UnsafeArchive``, ``NoSpace``, ``NotFound``; then nothing is left behind.
    """
    (file,) = request.paths
    adopted = _adopt(_adoption(settings, request), file)
    if adopted.already:
        raise UsageError(
            f"this is already adopted as {adopted.backup.id}",
            on=str(file),
            hint=f"scriptorium show {adopted.backup.id}",
        )
    return adopted


def soon_removed(settings: Settings, outcomes: Sequence[AdoptOutcome]) -> list[str]:
    """The ids that the next cleanup would remove: adopted backups are old, and retention removes old backups."""
    new = {
        one.adopted.backup.id: one.adopted.backup.library for one in outcomes if one.adopted and not one.adopted.already
    }
    decisions = [
        one for library in sorted(set(new.values())) for one in plan_cleanup(settings, library, after="complete")
    ]
    return [one.candidate.id for one in decisions if one.candidate.id in new and not one.keep]


def _adoption(settings: Settings, request: AdoptRequest) -> _Adoption:
    if request.library is not None:
        settings.library(request.library)
    stores = settings.targets(Tier.MANUAL, request.to)
    return _Adoption(settings, request, stores, datetime.now(UTC).replace(microsecond=0))


def _archives(path: Path) -> list[Path]:
    if not path.is_dir() or is_folder_dump(path):
        return [path]
    found = [inside for inside in sorted(path.iterdir()) if inside.is_file() or is_folder_dump(inside)]
    readable = [inside for inside in found if os.access(inside, os.R_OK)]
    return [inside for inside in readable if form_of(inside) is not None]


def _adopt(adoption: _Adoption, file: Path) -> Adopted:
    form = _form(file)
    before = _stamp(file)
    if form is Form.TAR and tar_module.is_ours(file):
        return _adopt_own(adoption, file)
    library = _library(adoption, form)
    log.info("%s: %s, is being adopted for %s", file, form.value, library.name)
    sha256 = _sha256(file)
    known = _known(adoption.settings, library.name, sha256)
    if known is not None:
        return Adopted(file, known, (), already=True)
    identity = new_id()
    with (
        workspace.lock(adoption.settings, library.name, f"adopting {file.name}"),
        workspace.staging(adoption.settings, library.name, identity) as folder,
    ):
        with usual_files():
            if form in _POSTGRES:
                staging = postgres.stage(
                    file, form, sha256, library, folder, adoption.now, trusted=adoption.request.trusted
                )
            else:
                staging = bibliotheca.stage(file, form, sha256, library, folder, adoption.now)
        if _stamp(file) != before:
            raise SourceUnavailable("the file changed while it was read", on=str(file), hint="try again")
        prepared = _prepared(adoption, library, identity, staging, folder, sha256)
        _stored(adoption, prepared, check(prepared))
    return _adopted(adoption, file, prepared.manifest)


def _form(file: Path) -> Form:
    if not file.is_file() and not is_folder_dump(file):
        raise NotFound("there is no such file", on=str(file))
    what, hint = ("", "") if file.is_dir() else why_not(file)
    if what:
        raise UsageError(what, on=str(file), hint=hint)
    form = form_of(file)
    if form is None:
        raise UsageError("this is no backup that can be adopted", on=str(file), hint=f"known: {_KNOWN}")
    return form


def _files(path: Path) -> list[Path]:
    """The file, or those of a dump that is a folder. ``UnsafeArchive`` if anything else is in there."""
    if not path.is_dir():
        return [path]
    found = sorted(path.iterdir())
    odd = next((one for one in found if one.is_symlink() or not one.is_file()), None)
    if odd is not None:
        raise UnsafeArchive("the folder of a dump holds what is no file", on=readable(str(odd)), hint="take it out")
    return found


def _stamp(file: Path) -> tuple[tuple[int, int, int], ...]:
    found = [one.lstat() for one in _files(file)]
    return tuple((one.st_ino, one.st_size, one.st_mtime_ns) for one in found)


def _sha256(file: Path) -> str:
    """The hash of a file; of a folder, that of its files' hashes and names, one a line, as ``sha256sum *`` writes."""
    lines = b""
    for one in _files(file):
        with one.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        lines += sha256.encode() + b"  " + os.fsencode(one.name) + b"\n"
    return hashlib.sha256(lines).hexdigest() if file.is_dir() else sha256


def _library(adoption: _Adoption, form: Form) -> Library:
    """The named library, else the only one that such an archive can belong to."""
    need = "one source of kind 'postgres'" if form in _POSTGRES else "the preset 'bibliotheca'"
    fitting = [one for one in adoption.settings.libraries.values() if _fits(one, form)]
    if adoption.request.library is not None:
        chosen = adoption.settings.library(adoption.request.library)
    elif len(fitting) == 1:
        return fitting[0]
    else:
        chosen = adoption.settings.library(None)
    if chosen not in fitting:
        raise UsageError(
            f"a {form.value} archive of this kind does not belong to this library",
            on=chosen.name,
            hint=f"it needs a library with {need}{_OF_A_TAR if form is Form.TAR else ''}",
        )
    return chosen


def _fits(library: Library, form: Form) -> bool:
    if form in _POSTGRES:
        return sum(takes_dumps(source) is not None for source in library.sources) == 1
    return library.preset == "bibliotheca"


def _known(settings: Settings, library: str, sha256: str) -> Backup | None:
    """The good backup that was adopted from a file with this content."""
    backups = Catalog(settings).backups(library=library, records=False)
    return next((one for one in backups if one.status.good and one.original_sha256 == sha256), None)


def _prepared(
    adoption: _Adoption, library: Library, identity: str, staging: Staging, folder: Path, sha256: str
) -> Prepared:
    foreign = staging.foreign
    kind = next((source.kind for source in library.sources if source.role == "database"), None)
    label = free_label(adoption.stores, library.name, staging.type, foreign.created_at, kind)
    plan = BackupPlan(
        id=identity,
        library=library.name,
        preset=library.preset,
        type=staging.type,
        tier=Tier.MANUAL,
        name=foreign.name,
        description=foreign.description,
        created_at=foreign.created_at,
        compression=adoption.settings.compression,
        sources=tuple(part.source for part in staging.parts),
        stores=tuple(store.name for store in adoption.stores),
        label=label,
    )
    draft = dataclasses.replace(draft_manifest(plan, staging.parts), warnings=staging.warnings, original_sha256=sha256)
    answers = all_answers(part.answers for part in staging.parts)

    def judge(entries: Iterator[FileEntry]) -> tuple[Check, ...]:
        return fulfilled(library.preset, answers, entries, staging.parts)

    packagings = dict.fromkeys(store.packaging(plan.compression) for store in adoption.stores)
    return prepare(packagings, draft, staging.parts, folder, label, judge=judge)


def _stored(adoption: _Adoption, prepared: Prepared, checked: Mapping[Packaging, Verification]) -> None:
    for store in adoption.stores:
        put(store, adoption.settings.compression, prepared, checked, pinned=adoption.request.pinned)


def _adopt_own(adoption: _Adoption, file: Path) -> Adopted:
    """An archive of ours keeps its id, its library and its manifest."""
    manifest = own.manifest_inside(file)
    if adoption.request.library is not None and adoption.request.library != manifest.library:
        raise UsageError(f"this archive is a backup of '{manifest.library}'", on=str(file), hint="leave --library out")
    library = adoption.settings.library(manifest.library)
    there = _copies(adoption.settings, manifest)
    stores = tuple(store for store in adoption.stores if store.name not in {copy.store for copy in there})
    if not stores:
        return Adopted(file, Catalog(adoption.settings).find(manifest.id), (), already=True)
    with (
        workspace.lock(adoption.settings, library.name, f"adopting {file.name}"),
        workspace.staging(adoption.settings, library.name, new_id()) as folder,
    ):
        manifest = own.named(manifest, stores)
        archive, verification = own.copied(file, manifest, folder)
        if not adoption.request.trusted:
            own.examine(archive, manifest, library, folder)
        prepared = own.prepared(archive, manifest, stores, adoption.settings.compression)
        checked = dict.fromkeys(prepared.packages, verification)
        _stored(dataclasses.replace(adoption, stores=stores), prepared, checked)
    return _adopted(adoption, file, manifest)


def _copies(settings: Settings, manifest: Manifest) -> list[Copy]:
    backups = Catalog(settings).backups(library=manifest.library, records=False)
    return [copy for one in backups if one.id == manifest.id for copy in one.copies if copy.status.good]


def _adopted(adoption: _Adoption, file: Path, manifest: Manifest) -> Adopted:
    return Adopted(file, Catalog(adoption.settings).find(manifest.id), manifest.warnings)
