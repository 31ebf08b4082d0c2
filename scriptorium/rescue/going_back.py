"""Going back: from a restore that failed or was cut short, by hand from one that stands, and dropping former data."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import datetime, timedelta

from scriptorium.crashpoints import reach
from scriptorium.errors import LibraryBusy, NotFound, RestoreFailed, ScriptoriumError
from scriptorium.rescue.journal import DROPPING, GOING_BACK, KEPT, PREPARING, Journal, journals
from scriptorium.settings import Library, Settings
from scriptorium.sources import Incoming

_STOP = "stop it, restore, start it again; or restore to a folder with --restore-path"


def put_back(incoming: Mapping[str, Incoming], error: BaseException) -> None:
    """Undo every part; what cannot be put back is said with where it lies, never swallowed."""
    failures = []
    for name, one in reversed(list(incoming.items())):
        try:
            one.undo()
        except (OSError, ScriptoriumError) as trouble:
            failures.append(f"{name}: {trouble}")
    if failures:
        raise RestoreFailed(
            "the restore failed and the former data could not be put back by itself",
            on="; ".join(failures),
            hint="it lies complete in the folders .scriptorium-restore-*/former beside the living data",
        ) from error


def recover(settings: Settings, library: Library) -> tuple[str, ...]:
    """Undo restores of this library that were cut short; the lock must be held. Returns a line for each.

    Going back that was cut short is gone on with; so is the dropping of former data.

    ``LibraryBusy`` when the application was started on data that was half switched: it must not be changed under it.
    """
    said = []
    for journal in journals(settings, library.name):
        if journal.state == KEPT:
            continue
        if journal.state == DROPPING:
            drop(journal, library)
            continue
        if journal.state != PREPARING:
            require_idle(library, "a restore was cut short and must be undone first; stop it and do this again")
        put_back(journal.incoming(library), RestoreFailed("cut short", on=journal.backup))
        journal.close()
        said.append(f"a restore of {journal.backup} that was cut short was undone")
    return tuple(said)


def cut_short(settings: Settings, library: Library) -> Journal | None:
    """The newest restore, or going back, that did not come to its end; ``recover`` puts back what was there.

    Without the library's lock it may be one that is still running.
    """
    cut = [journal for journal in journals(settings, library.name) if journal.state not in (KEPT, DROPPING)]
    return cut[-1] if cut else None


def newest_kept(settings: Settings, library: Library) -> Journal:
    """The restore that ``undo`` would go back from. ``NotFound`` when no former data is kept."""
    kept = [journal for journal in journals(settings, library.name) if journal.state == KEPT]
    if not kept:
        raise NotFound(
            "no former data is kept to go back to",
            on=library.name,
            hint="the safety backup is: scriptorium list (tier before-restore)",
        )
    return kept[-1]


def undo(settings: Settings, library: Library) -> str:
    """Put the data back that the newest restore replaced; returns the id of the backup that is undone.

    The lock must be held. ``LibraryBusy`` while the application holds the data open, ``NotFound`` when nothing is kept.
    """
    journal = newest_kept(settings, library)
    require_idle(library)
    journal.mark(GOING_BACK)  # from here on it is neither the one nor the other, until every part is back
    put_back(journal.incoming(library), RestoreFailed("going back failed", on=journal.backup))
    journal.close()
    return journal.backup


def require_idle(library: Library, hint: str = _STOP) -> None:
    """``LibraryBusy`` names the processes that hold living data open."""
    holders = [holder for source in library.sources for holder in source.holders()]
    if holders:
        raise LibraryBusy(
            f"the application is running: {'; '.join(str(holder) for holder in holders[:3])}",
            on=library.name,
            hint=hint,
        )


def drop_former(settings: Settings, library: Library, now: datetime, *, but: Journal | None = None) -> int:
    """Drop former data that is past its time, or all of it but that of one restore; returns how many restores' was.

    What cannot be dropped now (its source is gone from the settings, a file is in use) waits for the next time.
    """
    limit = timedelta(days=settings.keep_former)
    dropped = 0
    for journal in journals(settings, library.name):
        past = now - journal.written_at > limit
        if journal.state != KEPT or (but is None and not past) or (but is not None and journal.file == but.file):
            continue
        dropped += drop(journal, library)
    return dropped


def drop(journal: Journal, library: Library) -> bool:
    """Drop the former data of one restore; whether it could be. What is half dropped is not there to go back to."""
    with contextlib.suppress(OSError, ScriptoriumError):
        incoming = journal.incoming(library)
        journal.mark(DROPPING)
        for one in incoming.values():
            one.finish()
            reach("former.part-dropped")
        journal.close()
        return True
    return False
