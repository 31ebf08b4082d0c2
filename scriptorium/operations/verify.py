"""Verifying copies in their stores, and keeping the result; pinning."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from scriptorium import workspace
from scriptorium.catalog import Catalog
from scriptorium.catalog.run_progress import recorded
from scriptorium.errors import NoSpace, NotFound, StoreUnavailable
from scriptorium.failpoints import reach
from scriptorium.model import Backup, Copy, Verification
from scriptorium.progress import Advance, step
from scriptorium.requests import VerifyRequest, share_of
from scriptorium.results import Checked, VerifyResult
from scriptorium.settings import Settings
from scriptorium.stores import Share
from scriptorium.workspace.containment import contained

log = logging.getLogger(__name__)


def verify_stored(
    settings: Settings, backup_id: str, copy: Copy, *, share: Share | None = None, advance: Advance | None = None
) -> Verification:
    """Read one copy back, or a share of it, compare every hash, and keep the result beside its manifest."""
    store = settings.store(copy.store)
    what = f"{backup_id} in {copy.store}"
    with (
        workspace.reading(settings, backup_id),
        recorded(settings, backup_id, "verify", copy.library),
        step("verifying", what, expected=copy.bytes, also=advance) as moved,
    ):
        reach("verify.before-reading")
        verification = store.verify(copy.key, share=share, advance=moved)
        reach("verify.before-marks")
        # No manifest beside which it could be kept, or the store is read-only or full: the result is still returned.
        with contextlib.suppress(NotFound, StoreUnavailable, NoSpace):
            store.annotate(copy.key, replace(store.annotations(copy.key), verification=verification))
    log.log(
        logging.INFO if verification.sound else logging.ERROR,
        "%s is %s",
        what,
        "sound" if verification.sound else f"damaged: {'; '.join(verification.damage[:10])}",
    )
    return verification


def pin(settings: Settings, backup: Backup, *, pinned: bool) -> None:
    """Pin or unpin every copy of a backup. ``NotFound`` if it has none."""
    if not backup.copies:
        raise NotFound("this backup has no copy", on=backup.id, hint=f"it is {backup.status}")
    for copy in backup.copies:
        store = settings.store(copy.store)
        store.annotate(copy.key, replace(store.annotations(copy.key), pinned=pinned))


def choose_copies(settings: Settings, request: VerifyRequest) -> list[tuple[Backup, Copy]]:
    """The copies to verify: of the named backups, or of all. ``NotFound`` if the named ones have none."""
    catalog = Catalog(settings)
    if request.ids:
        backups = [catalog.find(reference, library=request.library) for reference in request.ids]
    else:
        backups = catalog.backups(library=request.library, records=False)
    if request.share:
        part, parts = share_of(request.share)
        backups = [backup for backup in backups if int(backup.id, 16) % parts == part % parts]
    store = request.store
    chosen = [(backup, copy) for backup in backups for copy in backup.copies if store is None or copy.store == store]
    if request.ids and not chosen:
        raise NotFound("there is no copy to verify", on=", ".join(request.ids), hint="show ID lists the copies")
    return chosen


def verify(settings: Settings, request: VerifyRequest, *, advance: Advance | None = None) -> VerifyResult:
    """The whole recipe without Prefect. A copy that could not be read is an error at the end."""
    chosen = choose_copies(settings, request)
    with contained():
        result = verify_each(chosen, lambda id, copy: verify_stored(settings, id, copy, advance=advance))
    return result.require_every_copy_read()


def verify_each(chosen: Sequence[tuple[Backup, Copy]], verify_one: Callable[[str, Copy], Verification]) -> VerifyResult:
    """Verify every copy with ``verify_one``. A copy that cannot be read does not stop the others."""
    checked: list[Checked] = []
    unread: dict[str, StoreUnavailable] = {}
    for backup, copy in chosen:
        try:
            checked.append(Checked(backup, copy, verify_one(backup.id, copy)))
        except StoreUnavailable as error:
            log.warning("%s in %s could not be read: %s", backup.id, copy.store, error)
            unread[f"{backup.id} in {copy.store}"] = error
    return VerifyResult(tuple(checked), unread)
