"""Verifying copies in their stores, and remembering what came out."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scriptorium import workspace
from scriptorium.archive.verification import verified
from scriptorium.catalog import Catalog
from scriptorium.catalog.run_progress import recorded
from scriptorium.errors import NoSpace, NotFound, StoreUnavailable, UsageError
from scriptorium.failpoints import reach
from scriptorium.manifest import manifest_key
from scriptorium.model import Backup, Copy, Verification
from scriptorium.progress import Advance, step
from scriptorium.settings import Settings
from scriptorium.stores.objects.layout import read_annotations, write_annotations

log = logging.getLogger(__name__)


def verify_stored(settings: Settings, backup_id: str, copy: Copy, *, advance: Advance | None = None) -> Verification:
    """Read one copy back, compare every hash, and keep the outcome beside its manifest."""
    store = settings.store(copy.store)
    library, _, name = copy.key.rpartition("/")
    what = f"{backup_id} in {copy.store}"
    with (
        workspace.reading(settings, backup_id),
        recorded(settings, backup_id, "verify", library),
        step("verifying", what, expected=copy.bytes, also=advance) as moved,
    ):
        try:
            manifest = store.read_bytes(manifest_key(copy.key))
        except NotFound:
            manifest = None
        reach("verify.before-reading")
        verification = verified(lambda: store.open(copy.key), manifest, name=name, size=None, advance=moved)
        reach("verify.before-marks")
        if manifest is not None:
            annotations = read_annotations(store, copy.key)
            with contextlib.suppress(StoreUnavailable, NoSpace):  # mounted read-only, or full: what was found counts
                write_annotations(store, copy.key, replace(annotations, verification=verification))
    log.log(
        logging.INFO if verification.sound else logging.ERROR,
        "%s is %s",
        what,
        "sound" if verification.sound else f"damaged: {'; '.join(verification.damage[:10])}",
    )
    return verification


def pin(settings: Settings, backup: Backup, *, pinned: bool) -> None:
    """Pin or unpin every copy of a backup. ``NotFound`` when it has none."""
    if not backup.copies:
        raise NotFound("this backup has no copy", on=backup.id, hint=f"it is {backup.status}")
    for copy in backup.copies:
        store = settings.store(copy.store)
        write_annotations(store, copy.key, replace(read_annotations(store, copy.key), pinned=pinned))


@dataclass(frozen=True, slots=True)
class Checked:
    """A copy and what reading it back showed."""

    backup: Backup
    copy: Copy
    verification: Verification


def choose_copies(
    catalog: Catalog,
    references: Sequence[str],
    *,
    library: str | None = None,
    store: str | None = None,
    share: str | None = None,
) -> list[tuple[Backup, Copy]]:
    """The copies to verify: of the named backups, or of all; ``share`` (``N/T``) takes the N-th of T shares by id."""
    if references:
        backups = [catalog.find(reference, library=library) for reference in references]
    else:
        backups = catalog.backups(library=library, records=False)
    if share:
        part, parts = _share(share)
        backups = [backup for backup in backups if int(backup.id, 16) % parts == part % parts]
    chosen = [(backup, copy) for backup in backups for copy in backup.copies if store is None or copy.store == store]
    if references and not chosen:
        raise NotFound("there is no copy to verify", on=", ".join(references), hint="show ID lists the copies")
    return chosen


def _share(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"'{text}' is not a share", hint="N/T with N from 1 to T, e.g. 1/7")
    return int(match[1]), int(match[2])
