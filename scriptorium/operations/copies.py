"""Copies of a backup: prepared once for all stores, read back, put into each. Backups and adoptions share this."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from scriptorium import wording, workspace
from scriptorium.catalog.status import judge_copy
from scriptorium.errors import STORE_TROUBLE, DamageFound
from scriptorium.failpoints import reach
from scriptorium.manifest import backup_label
from scriptorium.members import Stream
from scriptorium.members.known import KnownHashes
from scriptorium.members.walk import Judge, walk
from scriptorium.model import Annotations, Copy, Manifest, Staged, Verification
from scriptorium.progress import Advance, step
from scriptorium.stores import BackupStore, Package, Packaging
from scriptorium.words import BackupType, Compression

log = logging.getLogger(__name__)

_CHECK = "check the disk and the memory of this machine"


def free_label(stores: Sequence[BackupStore], library: str, type: BackupType, at: datetime, kind: str | None) -> str:
    """The name of a backup taken at this time; it is free in every store. ``kind``: the kind of its database."""
    tie, label = 0, backup_label(type, at, kind)
    while not all(is_free(store, library, label) for store in stores):
        tie = max(tie + 1, 2)
        label = backup_label(type, at, kind, tie)
    return label


def is_free(store: BackupStore, library: str, label: str) -> bool:
    """Whether the name is free. A store that does not answer counts as free: the others must still get their copy."""
    try:
        return store.is_free(library, label)
    except STORE_TROUBLE:
        return True


@dataclass(frozen=True, slots=True)
class Prepared:
    """A backup that is ready for every store: one package for each of their packagings."""

    label: str
    packages: Mapping[Packaging, Package]

    @property
    def manifest(self) -> Manifest:
        """The record of the backup, as the first store gets it."""
        return next(iter(self.packages.values())).manifest


def prepare(
    packagings: Iterable[Packaging],
    draft: Manifest,
    staged: Sequence[Staged],
    folder: Path,
    label: str,
    *,
    streams: Sequence[Stream] = (),
    judge: Judge | None = None,
    advance: Advance | None = None,
    hashes: Path | None = None,
) -> Prepared:
    """Read every part once, into one package for each packaging; the packages lie in ``folder``. See ``walk``.

    ``hashes``: a file with the hashes of the previous backup. Files that are unchanged since are not read for stores
    whose tools read the parts in place.
    """
    spool = folder / "spool"
    workspace.empty_folder(spool)
    with contextlib.ExitStack() as stack:
        made = {one: stack.enter_context(one.packager(folder, label)) for one in packagings}
        sinks = list(made.values())
        everything = all(sink.wants_contents for sink in sinks)
        known = KnownHashes.read(hashes) if hashes is not None and not everything else None
        manifest = walk(draft, staged, sinks, spool=spool, streams=streams, judge=judge, advance=advance, known=known)
    if hashes is not None and known is not None:
        known.write(hashes)
    return Prepared(label, {packaging: packager.package(manifest) for packaging, packager in made.items()})


def check(prepared: Prepared, *, advance: Advance | None = None) -> Mapping[Packaging, Verification]:
    """Read the packages back from disk and compare every hash. ``DamageFound`` if one is not sound.

    A packaging that writes directly into the store has nothing to read back yet; then ``put`` reads the copy.
    """
    checked: dict[Packaging, Verification] = {}
    for packaging, package in prepared.packages.items():
        with step("verifying", prepared.label, expected=package.bytes or None, also=advance) as moved:
            verification = package.check(advance=moved)
        if verification is None:
            continue
        if not verification.sound:
            raise DamageFound(
                "the backup that was just written reads back differently",
                on=prepared.label,
                hint="; ".join(verification.damage[:3]) + f" — {_CHECK}",
            )
        checked[packaging] = verification
    return checked


def put(
    store: BackupStore,
    compression: Compression,
    prepared: Prepared,
    checked: Mapping[Packaging, Verification],
    *,
    pinned: bool = False,
) -> Copy:
    """Put the backup into a store, its manifest last (the commit), then its annotations.

    A copy that was not ``checked`` before is read back from the store. ``DamageFound`` if it is not sound.
    """
    packaging = store.packaging(compression)
    stored = store.put(prepared.packages[packaging])
    log.info("%s: stored as %s, %s", store.name, stored.key, wording.size(stored.bytes))
    verification = checked.get(packaging) or stored.verification or store.verify(stored.key)
    reach("take.before-annotations")
    annotations = Annotations(pinned=pinned, verification=verification)
    store.annotate(stored.key, annotations)
    if not verification.sound:
        damage = "; ".join(verification.damage[:3])
        raise DamageFound("the copy that was just stored reads back differently", on=store.name, hint=damage)
    status = judge_copy(annotations, unsaved=prepared.manifest.unsaved_count).status
    return Copy(store.name, stored.key, stored.bytes, status, pinned=pinned, verified_at=verification.at)
