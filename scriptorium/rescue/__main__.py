"""``python -m scriptorium.rescue``: restore from a store's folder (or one archive) and nothing else.

It needs no Prefect, no catalog and no settings file. It is for the day when the machine that made the backups is gone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from scriptorium import wording
from scriptorium.errors import NotFound, ScriptoriumError, UsageError
from scriptorium.manifest import new_id
from scriptorium.model import Manifest
from scriptorium.progress import Advance
from scriptorium.requests import LATEST, RestoreRequest
from scriptorium.rescue.dumps import dumps_to_load
from scriptorium.rescue.inventory import InventoryItem, archive_alone, choose, inventory, manifest_of
from scriptorium.restore.into_folder import restore_into
from scriptorium.restore.supply import Restored, Supply
from scriptorium.restore.target import target_rows
from scriptorium.sources import RestoreOptions
from scriptorium.stores import LocalStore, age_of
from scriptorium.stores.care import require_key
from scriptorium.umask import private_files

_HEADINGS = ("created (UTC)", "library", "type", "tier", "size", "id", "name", "state")
_EPILOG = """examples:
  python -m scriptorium.rescue /srv/backups                          list the backups
  python -m scriptorium.rescue /srv/backups /srv/new                 the newest sound full backup into /srv/new
  python -m scriptorium.rescue /srv/backups /srv/new --backup 3f2a   this one
  python -m scriptorium.rescue full_20260301_020000.tar.gz /srv/new --only 'data/covers/*'
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scriptorium.rescue",
        description="Restore a backup from its store's folder alone: no Prefect, no catalog, no settings.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("where", type=Path, metavar="STORE_FOLDER_OR_ARCHIVE")
    parser.add_argument(
        "target", type=Path, nargs="?", metavar="TARGET", help="a new or empty folder; without it, backups are listed"
    )
    parser.add_argument("--only", action="append", default=[], metavar="GLOB", help="only these paths (repeatable)")
    parser.add_argument("--backup", metavar="ID", help="an id, 4 or more digits of it, a name, an archive's name")
    parser.add_argument("--library", metavar="L", help="needed if the store contains several")
    parser.add_argument("--identity", type=Path, metavar="FILE", help="the private key (age) of encrypted archives")
    parser.add_argument("--from-export", action="store_true", help="make Kuzu databases from their Parquet export")
    parser.add_argument("--owner", metavar="keep|me|UID:GID", help="whom files belong to (without: keep if root)")
    parser.add_argument("--clean", action="store_true", help="TARGET may contain files: it is replaced")
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """List or restore; returns the exit code (see docs/runbook.md)."""
    options = _parser().parse_args(words)
    try:
        with private_files():
            _carry_out(options)
    except ScriptoriumError as error:
        _complain(str(error), error.hint)
        return error.exit_code
    except KeyboardInterrupt:
        _complain("interrupted", "")
        return 130
    except OSError as error:
        _complain(str(error), "")
        return 1
    return 0


def _complain(what: str, hint: str) -> None:
    sys.stdout.flush()
    sys.stderr.write(f"error: {wording.legible(what)}\n" + (f"  {wording.legible(hint)}\n" if hint else ""))


def _say(text: str) -> None:
    sys.stdout.write(wording.legible(text) + "\n")


def _carry_out(options: argparse.Namespace) -> None:
    where: Path = options.where
    if not where.exists():
        raise NotFound("there is no such store or archive", on=str(where))
    age = age_of(options.identity) if options.identity else None
    store: LocalStore
    if where.is_dir():
        store = LocalStore(path=where.absolute(), age=age)
        found = inventory(store)
        if not found:
            raise NotFound("no backup is here", on=str(where), hint="a store has <library>/<archive> and its .json")
    else:
        store, alone = archive_alone(where, age)
        found = (alone,)
    if options.target is None:
        if options.only or options.from_export or options.clean or options.owner:
            raise UsageError("TARGET is missing", hint="without a TARGET, the backups are only listed")
        _list(found)
        return
    item = choose(found, library=options.library, backup=options.backup) if where.is_dir() else found[0]
    _say_choice(item, found)
    require_key(store, item.key)
    request = RestoreRequest(reference=LATEST, rebuild=options.from_export, owner=options.owner)
    supply = Supply(
        store,
        item.key,
        manifest_of(store, item),
        tuple(options.only),
        RestoreOptions.chosen(request.parameters()),
    )
    for row in target_rows(supply, [options.target.absolute().parent], required=False):
        if row.trouble is not None:
            raise row.trouble
        _say(f"{row.what}: {row.found}")
    restored = restore_into(supply, options.target, new_id(), clean=options.clean, advance=_progress(item.bytes))
    _say_restored(restored)
    _say_dumps(supply.manifest, restored)


def _list(found: Sequence[InventoryItem]) -> None:
    rows = [_HEADINGS, *(tuple(map(wording.legible, _row(one))) for one in reversed(found))]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_HEADINGS))]
    for row in rows:
        line = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        _say(line.rstrip())


def _row(one: InventoryItem) -> tuple[str, ...]:
    known = one.manifest
    if known is None:
        return ("?", one.library, "?", "?", wording.size(one.bytes), "?", one.key, one.state)
    created = wording.utc(known.created_at)
    size, name = wording.size(one.bytes), known.name
    return (created, known.library, known.type, known.tier, size, known.id, name, one.state)


def _say_choice(chosen: InventoryItem, found: Sequence[InventoryItem]) -> None:
    """Print which backup is restored, and which newer ones exist: their changes are not in it."""
    known = chosen.manifest
    if known is None:
        return
    _say(f"restoring {known.type} backup {known.id} of {known.library}, {wording.utc(known.created_at)}")
    for one in found:
        other = one.manifest
        if other is not None and other.library == known.library and other.created_at > known.created_at:
            word = f"a newer one of type {other.type}, tier {other.tier}"
            _say(f"there is {word}: --backup {other.id}, {wording.utc(other.created_at)}, {one.state}")


def _say_restored(restored: Restored) -> None:
    _say(f"restored: {restored.files} files, {wording.size(restored.bytes)}, in {restored.place}")
    _say("every file has the hash that the manifest recorded")
    for warning in (*restored.warnings, *restored.unset):
        _say(f"warning: {warning}")
    for table, held in sorted(restored.tables.items()):
        why = restored.comparison.not_compared.get(table)
        _say(f"table {table}: {held.rows} rows, {f'not compared: {why}' if why else 'as recorded'}")


def _say_dumps(manifest: Manifest, restored: Restored) -> None:
    """Print which databases are only dumps: they must be loaded before the application is started."""
    for dump in dumps_to_load(manifest, restored):
        _say(f"the database {dump.database} is still a dump, in {dump.place}: no server has it")
        _say(f"load it: {dump.load}")
        _say("what to do before (roles) and after (compare, rename): chapter 7 of docs/runbook.md")


def _progress(whole: int) -> Advance | None:
    """The percentage on standard error, only on a terminal."""
    if not sys.stderr.isatty() or not whole:
        return None
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        sys.stderr.write(f"\r{min(100 * done // whole, 100)} %" + ("\r     \r" if done >= whole else ""))

    return advance


if __name__ == "__main__":
    sys.exit(main())
