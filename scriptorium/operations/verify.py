"""Verifying copies in their stores, and keeping the result."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from scriptorium import workspace
from scriptorium.catalog import Catalog
from scriptorium.catalog.run_progress import recorded
from scriptorium.errors import STORE_TROUBLE, NoSpace, NotFound, ScriptoriumError
from scriptorium.failpoints import reach
from scriptorium.model import Backup, Copy, Verification
from scriptorium.operations.locks import locks_of
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
    """Read one copy back, or a share of it, compare every hash, and keep the result beside its manifest.

    A sound share does not prove the rest: then the recorded result of the copy is not changed.
    """
    store = settings.store(copy.store)
    what = f"{backup_id} in {copy.store}" + (f", share {share}" if share else "")
    with (
        workspace.reading(settings, backup_id),
        recorded(settings, backup_id, "verify", copy.library),
        step("verifying", what, expected=copy.bytes // (share.of if share else 1), also=advance) as moved,
    ):
        reach("verify.before-reading")
        verification = store.verify(copy.key, share=share, advance=moved)
        reach("verify.before-annotations")
        if share is None or not verification.sound:
            # There is no manifest to keep it beside, or the store is read-only or full: the result is still returned.
            with contextlib.suppress(NotFound, NoSpace, *STORE_TROUBLE):
                store.annotate(copy.key, replace(store.annotations(copy.key), verification=verification))
    log.log(
        logging.INFO if verification.sound else logging.ERROR,
        "%s is %s",
        what,
        "sound" if verification.sound else f"damaged: {'; '.join(verification.damage[:10])}",
    )
    return verification


@dataclass(frozen=True, slots=True)
class ChosenCopy:
    """A copy to verify: as a whole, or a ``share`` of its contents. ``lock``: until when its store locks it."""

    backup: Backup
    copy: Copy
    share: Share | None = None
    lock: str = ""


def choose_copies(settings: Settings, request: VerifyRequest) -> list[ChosenCopy]:
    """The copies to verify: of the named backups, or of all. ``NotFound`` if the named ones have none.

    A share of them is a share of the contents of every copy where its store can read that alone, and else a share of
    the copies, by the ids of their backups. Either way, all shares together are everything.
    """
    catalog = Catalog(settings)
    if request.ids:
        backups = [catalog.find(reference, library=request.library) for reference in request.ids]
    else:
        backups = catalog.backups(library=request.library, records=False)
    share = Share(*share_of(request.share)) if request.share else None
    chosen = [
        one
        for backup in backups
        for copy in backup.copies
        if request.store in (None, copy.store) and (one := _chosen(settings, backup, copy, share)) is not None
    ]
    if request.ids and not chosen:
        raise NotFound("there is no copy to verify", on=", ".join(request.ids), hint="show ID lists the copies")
    return chosen


def _chosen(settings: Settings, backup: Backup, copy: Copy, share: Share | None) -> ChosenCopy | None:
    shares = settings.store(copy.store).features.shares
    if share is not None and not shares and int(backup.id, 16) % share.of != share.number % share.of:
        return None
    lock = locks_of(settings, backup).get(copy.store)
    return ChosenCopy(backup, copy, share if shares else None, str(lock or ""))


def verify(settings: Settings, request: VerifyRequest, *, advance: Advance | None = None) -> VerifyResult:
    """The whole recipe without Prefect. A copy that could not be read is an error at the end."""
    chosen = choose_copies(settings, request)
    with contained():
        result = verify_each(
            chosen, lambda id, copy, share: verify_stored(settings, id, copy, share=share, advance=advance)
        )
    return result.require_every_copy_read()


def verify_each(
    chosen: Sequence[ChosenCopy], verify_one: Callable[[str, Copy, Share | None], Verification]
) -> VerifyResult:
    """Verify every copy with ``verify_one``. A copy that cannot be read does not stop the others."""
    checked: list[Checked] = []
    unread: dict[str, ScriptoriumError] = {}
    for one in chosen:
        backup, copy, share = one.backup, one.copy, one.share
        try:
            checked.append(Checked(backup, copy, verify_one(backup.id, copy, share), str(share or ""), one.lock))
        except STORE_TROUBLE as error:
            log.warning("%s in %s could not be read: %s", backup.id, copy.store, error)
            unread[f"{backup.id} in {copy.store}"] = error
    return VerifyResult(tuple(checked), unread)
