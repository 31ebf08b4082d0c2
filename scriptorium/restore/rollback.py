"""Roll back a restore that failed or was interrupted, undo one that succeeded, and remove previous data."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from scriptorium.errors import LibraryBusy, NotFound, RestoreFailed, ScriptoriumError
from scriptorium.failpoints import reach
from scriptorium.fs.previous import Keeping, Kept, Overwriting, Previous, Whereabouts
from scriptorium.restore.health_check import answering
from scriptorium.restore.journal import Journal, journals
from scriptorium.settings import Library, Settings, again
from scriptorium.sources import Incoming
from scriptorium.sources.abilities import blocking_holders, has_exclusive, living_path, looks_at
from scriptorium.words import JournalState

log = logging.getLogger(__name__)

_STOP = "stop it, restore, start it again; or restore to a folder with --restore-path"


_GONE = Whereabouts.GONE


def put_back(incoming: Mapping[str, Callable[[], Incoming]], journal: Journal, error: BaseException) -> None:
    """Undo every part, the last one first, and compare the result with the journal.

    ``RestoreFailed`` names the parts that could not be put back, and where their data is. Then only these parts stay in
    the journal: the others may be used, and are not compared again.
    """
    failures: dict[str, str] = {}
    for name, way in reversed(list(incoming.items())):
        try:
            one = way()
            found, journal = _put_back(name, one, journal)
            if found:
                failures[name] = found
        except (OSError, ScriptoriumError) as trouble:
            failures[name] = str(trouble)
        if name in failures:
            log.error("%s: the previous data is not back: %s", name, failures[name])
        else:
            log.info("%s: the restore of this part is undone", name)
    if failures:
        others = [name for name in incoming if name not in failures]
        with contextlib.suppress(OSError, ScriptoriumError):  # the previous record is then unchanged
            journal.only(failures).enter(journal.state)
        raise RestoreFailed(
            "the previous data is not back in every part",
            on="; ".join(f"{name}: {found}" for name, found in failures.items()),
            hint=f"back: {', '.join(others) or 'nothing'}. The previous data is in the folders "
            ".scriptorium-restore-*/former near the living data; when it can be reached, do this again. To give it up "
            f"and keep the present data, remove {journal.file} (the runbook, chapter 15)",
        ) from error


def _put_back(name: str, one: Incoming, journal: Journal) -> tuple[str, Journal]:
    """Undo one part; returns what is wrong with it afterwards (empty when it is back), and the journal that says so.

    A part that an earlier process compared and put back is not compared again: the application may have written to it.
    """
    kept, how_far = journal.kept.get(name), journal.undone.get(name)
    if not kept or not isinstance(one, Keeping):
        one.undo()
        return "", journal
    if how_far == "back":
        one.undo()
        return "", journal
    if how_far == "found" and one.returned():
        log.info("%s: the previous data was put back before this was cut short", name)
    else:
        if one.previous(kept).where is not Whereabouts.GONE:
            journal = _noted(journal.with_undone(name, "found"))
        one.put_back()
        if found := _not_back(one, kept):
            return found, journal
    journal = _noted(journal.with_undone(name, "back"))
    one.undo()  # what showed that it is back goes
    return "", journal


def _noted(journal: Journal) -> Journal:
    with contextlib.suppress(OSError, ScriptoriumError):  # a full disk: the next run compares once more
        journal.enter(journal.state)
    return journal


def _makers(journal: Journal, settings: Settings, library: Library) -> dict[str, Callable[[], Incoming]]:
    """A function that makes each part to be put back, in order: files before databases on a server, because a file may
    contain the password of the database. So each part is made late, from settings that are read again."""
    journal.incoming(library)  # errors in the journal or the settings are raised before anything is done

    def maker(name: str) -> Callable[[], Incoming]:
        return lambda: journal.incoming(_fresh(settings, library))[name]

    return {name: maker(name) for name in sorted(journal.sources, key=lambda name: not _on_a_server(library, name))}


def _on_a_server(library: Library, name: str) -> bool:
    """Whether the data of the source is on a server, which must accept our login before it can be put back."""
    return any(source.name == name and living_path(source) is None for source in library.sources)


def _fresh(settings: Settings, library: Library) -> Library:
    try:
        return again(settings).library(library.name)
    except ScriptoriumError:  # while its files are replaced, an application's settings may be unreadable
        return library


def _not_back(one: Keeping, kept: Kept) -> str:
    """What is wrong with a part that was put back; empty if it is the previous data."""
    found = one.previous(kept)
    return "" if found.where is Whereabouts.BACK else found.what


def recover(settings: Settings, library: Library) -> tuple[str, ...]:
    """Roll back restores of this library that were interrupted; the lock must be held. Returns a line for each.

    An undo that was interrupted is finished; so is the removal of previous data.

    ``LibraryBusy`` if the application was started while only a part of the data was switched: the data must not be
    changed while the application runs.
    """
    messages = []
    for journal in journals(settings, library.name):
        if journal.state is JournalState.KEPT:
            continue
        if journal.state is JournalState.DROPPING:
            drop(journal, library)
            continue
        if journal.state is not JournalState.PREPARING:
            require_idle(library, "a restore was cut short and must be undone first; stop it and do this again")
        log.warning("the restore of %s was cut short (%s); it is rolled back", journal.backup, journal.state)
        makers = _makers(journal, settings, library)
        put_back(makers, journal, RestoreFailed("cut short", on=journal.backup))
        journal.close()
        doubt = (
            "" if journal.compares else " (an earlier version began it: what is there now was compared with nothing)"
        )
        messages.append(f"a restore of {journal.backup} that was cut short was undone{doubt}")
    return tuple(messages)


def cut_short(settings: Settings, library: Library) -> Journal | None:
    """The newest restore or undo that was interrupted; ``recover`` puts the previous data back.

    If the caller does not hold the library's lock, it may still be running.
    """
    cut = [journal for journal in journals(settings, library.name) if journal.state.cut_short]
    return cut[-1] if cut else None


def newest_kept(settings: Settings, library: Library) -> Journal:
    """The restore that ``undo`` would undo. ``NotFound`` if no previous data is kept."""
    kept = [journal for journal in journals(settings, library.name) if journal.state is JournalState.KEPT]
    if not kept:
        raise NotFound(
            "no previous data is kept, so nothing can be undone",
            on=library.name,
            hint="a safety backup of before a restore has the tier before-restore: scriptorium list",
        )
    return kept[-1]


def find_previous(journal: Journal, library: Library) -> dict[str, Previous]:
    """By source, where the data that a restore replaced is now; changes nothing. ``Untrusted``, ``RestoreFailed``."""
    found = {}
    for name, one in journal.incoming(library).items():
        if not isinstance(one, Keeping) or (journal.kept and not journal.kept.get(name)):
            continue
        if (how_far := journal.undone.get(name)) and (how_far == "back" or one.returned()):
            found[name] = Previous(Whereabouts.BACK, "put back before the undo was cut short")
            continue
        try:
            previous = one.previous(journal.kept.get(name, {}))
        except ScriptoriumError as error:
            later = _on_a_server(library, name) and _settings_come_back(journal)
            where = Whereabouts.ASIDE if later else _GONE
            previous = Previous(where, f"it cannot be found with the restored settings: {error}")
        if not journal.kept and previous.where is Whereabouts.BACK:
            previous = Previous(Whereabouts.GONE, "the data that this restore replaced is not found")
        found[name] = previous
    return found


def _settings_come_back(journal: Journal) -> bool:
    """Whether the previous data contains the application's own settings: with them a server may accept our login."""
    moves = [move for kept in journal.kept.values() if isinstance(found := kept.get("moves"), list) for move in found]
    return any(str(move[0]).rpartition("/")[2] == ".env" for move in moves)


def require_previous(journal: Journal, library: Library) -> None:
    """``RestoreFailed`` names the parts whose previous data is gone. Changes nothing."""
    gone = {name: one for name, one in find_previous(journal, library).items() if not one.whole}
    if gone:
        raise RestoreFailed(
            "the previous data cannot be put back, so nothing was changed",
            on="; ".join(f"{name}: {one.what}" for name, one in gone.items()),
            hint="return it to its place, or restore the safety backup: scriptorium list",
        )


def undo(settings: Settings, library: Library) -> str:
    """Put the data back that the newest restore replaced; returns the id of the backup whose restore is undone.

    The lock must be held. ``LibraryBusy`` while the application has the data open; ``NotFound`` if no previous data is
    kept; ``RestoreFailed`` if some of it is missing (then nothing was changed), or could not be put back.
    """
    journal = newest_kept(settings, library)
    require_idle(library)
    require_previous(journal, library)
    makers = _makers(journal, settings, library)
    failed = RestoreFailed("the undo failed", on=journal.backup)
    for one in (maker() for maker in makers.values()):
        with contextlib.suppress(OSError, ScriptoriumError):  # a server may accept us only with the previous settings
            if isinstance(one, Overwriting):
                one.give_up()
    journal = journal.enter(JournalState.UNDOING)  # from here on the data may be half old, until every part is back
    put_back({name: _giving_up(maker) for name, maker in makers.items()}, journal, failed)
    journal.close()
    return journal.backup


def _giving_up(maker: Callable[[], Incoming]) -> Callable[[], Incoming]:
    """The undo that begins now may overwrite what is there now; one that is finished later may not."""

    def made() -> Incoming:
        one = maker()
        if isinstance(one, Overwriting):
            one.give_up()
        return one

    return made


def require_idle(library: Library, hint: str = _STOP) -> str:
    """``LibraryBusy`` while an application has living data open; else the result of the check, for people.

    Visible processes are named. For a database that consists of files, the kernel is asked whether any process has it
    open for writing, also in other containers; and the health check's address is asked.
    """
    holders = blocking_holders(library.sources)
    if holders:
        raise _running("; ".join(str(holder) for holder in holders[:3]), library, hint)
    if has_exclusive(library.sources) and library.health is not None and (answer := answering(library.health)):
        raise _running(answer, library, hint)
    looks = looks_at(library.sources)
    writers = [writer for look in looks for writer in look.writers]
    if writers:
        raise _running(f"{'; '.join(writers[:3])}, by a process that cannot be seen from here", library, hint)
    unknown = [look.unknown for look in looks if look.unknown]
    if unknown:
        return (
            f"no visible process has a file open; not known of other containers ({unknown[0]}): make sure it is stopped"
        )
    return "holds no file open"


def _running(found: str, library: Library, hint: str) -> LibraryBusy:
    return LibraryBusy(f"the application is running: {found}", on=library.name, hint=hint)


def drop_previous(settings: Settings, library: Library, now: datetime, *, keep: Journal | None = None) -> int:
    """Remove previous data that is older than the limit; with ``keep``, that of all other restores. Returns the number
    of restores.

    Data that cannot be removed now (its source is missing in the settings, a file is in use) is left for the next time.
    """
    limit = timedelta(days=settings.keep_previous)
    dropped = 0
    for journal in journals(settings, library.name):
        past = now - journal.written_at > limit
        wanted = past if keep is None else journal.file != keep.file
        if journal.state is not JournalState.KEPT or not wanted:
            continue
        dropped += drop(journal, library)
    return dropped


def drop(journal: Journal, library: Library) -> bool:
    """Remove the previous data of one restore; returns whether it is removed. If only a part of it was removed, it
    cannot be put back any more."""
    try:
        incoming = journal.incoming(library)
        journal.enter(JournalState.DROPPING)
        for one in incoming.values():
            one.finish()
            reach("previous.part-dropped")
        journal.close()
    except (OSError, ScriptoriumError) as error:
        log.warning("the previous data of the restore of %s is not dropped now: %s", journal.backup, error)
        return False
    log.info("the previous data of the restore of %s is dropped", journal.backup)
    return True
