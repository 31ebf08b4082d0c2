"""How well libraries are protected, in figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from scriptorium.catalog import Catalog
from scriptorium.errors import STORE_TROUBLE
from scriptorium.model import Backup
from scriptorium.results import Figures, LastDrill, Statistics, Usage
from scriptorium.settings import Settings
from scriptorium.stores import BackupStore
from scriptorium.words import Status


def stats(settings: Settings, library: str | None = None) -> Statistics:
    """The figures of all chosen libraries, of each one, and of the stores."""
    backups = [backup for backup in Catalog(settings).backups(library=library) if backup.copies]
    names = [library] if library else list(settings.libraries)
    return Statistics(
        _figures(backups),
        {name: _figures([one for one in backups if one.library == name]) for name in names},
        {name: _usage(store) for name, store in settings.stores.items()},
    )


def _figures(backups: Sequence[Backup]) -> Figures:
    """``backups`` are ordered, newest first."""
    good = [backup for backup in backups if backup.status.good]
    proven = [copy.proven_at for backup in backups for copy in backup.copies if copy.proven_at]
    return Figures(
        backups=len(backups),
        bytes=sum(copy.bytes for backup in backups for copy in backup.copies),
        oldest=backups[-1].created_at if backups else None,
        newest=backups[0].created_at if backups else None,
        types=Counter(str(backup.type) for backup in backups),
        last_success=good[0].created_at if good else None,
        last_proof=max(proven) if proven else None,
        last_drill=_last_drill(backups),
        unrecorded=sum(1 for backup in backups if backup.unrecorded),
        degraded=sum(1 for backup in backups if backup.status is Status.DEGRADED),
        damaged=sum(1 for backup in backups if backup.status is Status.DAMAGED),
    )


def _last_drill(backups: Sequence[Backup]) -> LastDrill | None:
    drilled = [(copy.drilled_at, backup, copy) for backup in backups if (copy := backup.last_drill) and copy.drilled_at]
    if not drilled:
        return None
    at, backup, copy = max(drilled, key=lambda one: one[0])
    return LastDrill(at, backup.id, copy.store, copy.verdict, copy.recovery_seconds)


def _usage(store: BackupStore) -> Usage:
    try:
        used, free = store.usage()
    except STORE_TROUBLE as error:
        return Usage(store.kind, None, None, error.exact)
    return Usage(store.kind, used, free)
