"""Removing generations, and what runs that were cut short left. A folder is renamed before it is emptied."""

from __future__ import annotations

from datetime import datetime, timedelta

from scriptorium.failpoints import reach
from scriptorium.stores.trees.rsync.generations import PARTIAL, REMOVED, UNFINISHED, hidden_name, stamp_of
from scriptorium.stores.trees.rsync.site import Site


def removed(site: Site, key: str) -> None:
    """Remove a backup of ours. One that is not there is no error."""
    library, _, label = key.partition("/")
    if not any(one.path == key and one.is_backup for one in site.survey(library)):
        return
    hidden = f"{library}/{hidden_name(label, REMOVED)}"
    reach("rsync.before-hidden")
    site.rename(key, hidden)
    reach("rsync.after-hidden")
    site.remove(hidden)
    reach("rsync.after-removal")


def swept(site: Site, now: datetime, grace: timedelta, *, dry_run: bool) -> tuple[str, ...]:
    rubbish = [one for one in site.survey() if one.is_leftover and now - one.changed > grace]
    for one in rubbish if not dry_run else ():
        site.remove(one.path)
    return tuple(one.path for one in rubbish)


def set_aside(site: Site, library: str, created_at: datetime) -> tuple[str, ...]:
    """What a dead run left gives up its name, and stays until the next backup has linked to what arrived with it."""
    stamp = stamp_of(created_at)
    found = [one for one in site.survey(library) if one.is_partial and stamp in one.label]
    for one in found:
        site.rename(one.path, f"{library}/{hidden_name(UNFINISHED, PARTIAL)}")
    return tuple(one.path for one in found)
