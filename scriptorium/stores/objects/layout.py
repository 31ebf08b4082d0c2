"""How a backup lies among objects: ``<library>/<archive>``, its manifest and its annotations beside it.

The manifest's presence is the commit: it is written last and removed first. An archive without one is rubbish
that ``sweep`` removes after a grace time; it is never listed. A store's folder may be shared with others: only files
with names of ours count as rubbish, and only a file beside an archive is read as its manifest.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from scriptorium.errors import DamageFound, NotFound, Protected, ScriptoriumError, ToolMissing, TransientError
from scriptorium.failpoints import reach
from scriptorium.manifest import (
    annotations_key,
    dumps,
    dumps_annotations,
    is_archive_name,
    loads,
    loads_annotations,
    manifest_key,
)
from scriptorium.model import Annotations, Manifest
from scriptorium.progress import Advance
from scriptorium.stores.base import GRACE
from scriptorium.stores.objects.base import ObjectInfo, ObjectStore

log = logging.getLogger(__name__)

MANIFEST, _ANNOTATIONS = manifest_key(""), annotations_key("")
_BEGINNING = b'{\n  "version": '
_LARGEST_MANIFEST = 256 << 20
_ARCHIVE = re.compile(r"[^/]+/[^/]+\.tar(\.[a-z0-9]+)*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Stored:
    """The objects of one backup, as the listing shows them; ``archive`` may be missing."""

    key: str
    manifest: ObjectInfo
    archive: ObjectInfo | None
    annotations: ObjectInfo | None

    @property
    def stamp(self) -> str:
        """Changes whenever one of the objects does."""
        parts = (self.manifest, self.archive, self.annotations)
        return "/".join(part.etag if part else "-" for part in parts)


def key_of(library: str, archive_name: str) -> str:
    return f"{library}/{archive_name}"


def commit(store: ObjectStore, archive: Path, manifest: Manifest, *, advance: Advance | None = None) -> str:
    """Upload the archive, then its manifest; returns the archive's key. Only then is it a backup.

    An archive whose manifest could not be written is removed again: it may be what fills the store. Where the store
    only does not answer, it stays for the next try. One whose manifest is there is whole, whatever came after. An
    archive that could not be put may be another host's: that is left alone.
    """
    if manifest.archive is None:
        raise DamageFound("this manifest describes no archive", on=manifest.name)
    key = key_of(manifest.library, manifest.archive.name)
    store.prepare()
    reach("upload.before-archive")
    try:
        store.put(key, archive, sha256=manifest.archive.sha256, advance=advance)
    except Exception:
        raise
    except BaseException:  # interrupted, perhaps just after it was put; in a folder of this machine it is ours
        if store.folder is not None:
            _take_back(store, key)
        raise
    try:
        reach("upload.before-manifest")
        store.put_bytes(manifest_key(key), dumps(manifest))
        reach("upload.after-manifest")
    except TransientError:
        raise
    except BaseException:
        _take_back(store, key)
        raise
    return key


def _take_back(store: ObjectStore, key: str) -> None:
    """Remove the archive of a backup that has no manifest, as well as that goes."""
    with contextlib.suppress(ScriptoriumError):
        if manifest_key(key) not in {info.key for info in store.list(key)}:
            remove(store, key)


def stored(store: ObjectStore, library: str = "") -> Iterator[Stored]:
    """Every backup of the store (or of one library), one pass over its listing."""
    objects = {info.key: info for info in store.list(f"{library}/" if library else "")}
    for key, info in objects.items():
        archive = key.removesuffix(MANIFEST)
        if archive == key or key.endswith(_ANNOTATIONS) or not _ARCHIVE.fullmatch(archive):
            continue
        if not is_archive_name(archive.rpartition("/")[2]) and not _is_manifest(store, info):
            continue
        yield Stored(archive, info, objects.get(archive), objects.get(annotations_key(archive)))


_judged: dict[tuple[str, str], bool] = {}


def _is_manifest(store: ObjectStore, info: ObjectInfo) -> bool:
    """Whether what lies beside an archive with a name that we never give is a manifest of ours. It is read once; a
    damaged one is ours as long as its beginning or a key of it says so."""
    place = store.location(info.key), info.etag
    if place not in _judged:
        try:
            data = store.read_bytes(info.key) if info.size <= _LARGEST_MANIFEST else b""
        except NotFound:  # removed in the meantime
            return False
        _judged[place] = data.startswith(_BEGINNING) or b'"scriptorium_version"' in data
    return _judged[place]


def used(store: ObjectStore) -> int:
    """The bytes of our backups, whole and unfinished; a store may hold files of others."""
    known = {info.key: info.size for info in store.list() if _has_our_name(info.key)}
    for one in stored(store):
        parts = (one.manifest, one.archive, one.annotations)
        known |= {info.key: info.size for info in parts if info is not None}
    return sum(known.values()) + sum(info.size for info in store.leftovers())


def _has_our_name(key: str) -> bool:
    library, _, name = key.rpartition("/")
    return bool(library) and is_archive_name(name.removesuffix(_ANNOTATIONS).removesuffix(MANIFEST))


def read_manifest(store: ObjectStore, key: str) -> Manifest:
    """The manifest beside an archive. ``NotFound``, or ``DamageFound`` when it cannot be trusted."""
    return loads(store.read_bytes(manifest_key(key)))


def read_annotations(store: ObjectStore, key: str) -> Annotations:
    """The annotations of the backup: empty where there are none.

    Damaged ones may have held a pin: it counts as pinned, and is not removed, until somebody pins or unpins it again.
    """
    try:
        return loads_annotations(store.read_bytes(annotations_key(key)))
    except NotFound:
        return Annotations()
    except (DamageFound, ToolMissing):  # incomplete, or a newer program's
        return Annotations(pinned=True)


def write_annotations(store: ObjectStore, key: str, annotations: Annotations) -> None:
    store.put_bytes(annotations_key(key), dumps_annotations(annotations))


def remove(store: ObjectStore, key: str) -> None:
    """Remove a backup: the manifest first, so that a crash in between leaves rubbish and not a broken backup."""
    log.info("%s: %s is removed", store.name, key)
    for name in (manifest_key(key), key):
        reach("remove.before-object")
        store.delete(name)
    reach("remove.before-object")
    try:
        store.delete(annotations_key(key))
    except Protected as error:  # the backup is gone; sweep removes them when their time has come
        log.info("the annotations stay: %s", error)
    reach("remove.after-objects")


def sweep(
    store: ObjectStore, now: datetime, *, grace: timedelta = GRACE, dry_run: bool = False
) -> tuple[ObjectInfo, ...]:
    """Remove what a crash left behind and nothing refers to, once it is older than the grace time."""
    rubbish = [info for info in _orphans(store) if now - info.modified > grace]
    leftovers = [info for info in store.leftovers() if now - info.modified > grace]
    return (*rubbish, *leftovers) if dry_run else _discard(store, rubbish, leftovers)


def discard_unfinished(store: ObjectStore, library: str, created_at: datetime) -> tuple[ObjectInfo, ...]:
    """Remove what one run that was cut short left in a store, without a grace time. The library must be held."""
    stamp = f"_{created_at.astimezone(UTC):%Y%m%d_%H%M%S}"
    rubbish = [info for info in _orphans(store) if info.key.startswith(f"{library}/") and stamp in info.key]
    leftovers = [info for info in store.leftovers() if info.key.startswith(f"{library}/.") and stamp in info.key]
    return _discard(store, rubbish, leftovers)


def _discard(store: ObjectStore, rubbish: list[ObjectInfo], leftovers: list[ObjectInfo]) -> tuple[ObjectInfo, ...]:
    """Returns what is gone: what the store locks stays, and is swept when its time has come."""
    if leftovers or rubbish:
        log.info("%s: %d unfinished objects are removed", store.name, len(leftovers) + len(rubbish))
    locked = set()
    for info in leftovers:
        store.discard(info)
    for info in rubbish:
        try:
            store.delete(info.key)
        except Protected as error:
            log.info("unfinished, and it stays: %s", error)
            locked.add(info.key)
    return tuple(info for info in (*rubbish, *leftovers) if info.key not in locked)


def _orphans(store: ObjectStore) -> Iterator[ObjectInfo]:
    """Archives and annotations of ours that have no manifest."""
    objects: Mapping[str, ObjectInfo] = {info.key: info for info in store.list()}
    for key, info in objects.items():
        library, _, name = key.removesuffix(_ANNOTATIONS).rpartition("/")
        manifest = manifest_key(f"{library}/{name}")
        if library and is_archive_name(name) and manifest not in objects and store.may_discard(key, manifest):
            yield info


def free_name(store: ObjectStore, library: str, name: str) -> bool:
    """Whether no object of that archive name is in the store yet."""
    key = key_of(library, name)
    taken = {info.key for info in store.list(key)}
    return not taken & {key, manifest_key(key)}
