"""How well libraries are protected, in figures: the document of ``stats`` and of ``GET /api/stats``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from scriptorium.catalog import Catalog
from scriptorium.errors import STORE_TROUBLE
from scriptorium.model import Backup
from scriptorium.settings import Settings

Document = dict[str, object]


def stats(settings: Settings, library: str | None = None) -> Document:
    """The figures of all chosen libraries; ``by_library`` has the same figures for each one. Times are RFC 3339."""
    backups = [backup for backup in Catalog(settings).backups(library=library) if backup.copies]
    names = [library] if library else list(settings.libraries)
    return {
        **_figures(backups),
        "by_library": {name: _figures([one for one in backups if one.library == name]) for name in names},
        "storage": _storage(settings),
    }


def _figures(backups: Sequence[Backup]) -> Document:
    """``backups`` are ordered, newest first."""
    total = sum(copy.bytes for backup in backups for copy in backup.copies)
    good = [backup for backup in backups if backup.status.good]
    proven = [copy.proven_at for backup in backups for copy in backup.copies if copy.proven_at]
    return {
        "total_backups": len(backups),
        "total_size_bytes": total,
        "total_size_mb": round(total / 1_000_000, 2),
        "oldest_backup": backups[-1].created_at.isoformat() if backups else None,
        "newest_backup": backups[0].created_at.isoformat() if backups else None,
        "backup_types": dict(Counter(str(backup.type) for backup in backups)),
        "last_success": good[0].created_at.isoformat() if good else None,
        "last_proof": max(proven).isoformat() if proven else None,
        "last_drill": _last_drill(backups),
        "unrecorded": sum(1 for backup in backups if backup.unrecorded),
        "degraded": sum(1 for backup in backups if backup.status == "degraded"),
        "damaged": sum(1 for backup in backups if backup.status == "damaged"),
    }


def _last_drill(backups: Sequence[Backup]) -> Document | None:
    """The last drill, whatever its verdict: time, backup, store, verdict, seconds that the restore took."""
    drilled = [(copy.drilled_at, backup, copy) for backup in backups if (copy := backup.last_drill) and copy.drilled_at]
    if not drilled:
        return None
    at, backup, copy = max(drilled, key=lambda one: one[0])
    return {
        "at": at.isoformat(),
        "backup": backup.id,
        "store": copy.store,
        "verdict": copy.verdict,
        "recovery_seconds": copy.recovery_seconds,
    }


def _storage(settings: Settings) -> Document:
    storage: Document = {}
    for name, store in settings.stores.items():
        try:
            used, free = store.usage()
            storage[name] = {"kind": store.kind, "used": used, "free": free}
        except STORE_TROUBLE as error:
            storage[name] = {"kind": store.kind, "used": None, "free": None, "error": error.exact}
    return storage
