"""One operation of the core in a process of its own, which a failpoint may end: ``driver.py OPERATION SETTINGS``.

SIGTERM and SIGINT are raised as an exception where the process stands, as the engine that runs the flows does it; the
end is then one line on standard error, as the command line prints it.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from scriptorium.catalog import Catalog
from scriptorium.errors import ScriptoriumError
from scriptorium.failpoints import reach
from scriptorium.operations import backup as backup_operation
from scriptorium.operations import copy as copy_operation
from scriptorium.operations import drill as drill_operation
from scriptorium.operations import restore as restore_operation
from scriptorium.operations import undo as undo_operation
from scriptorium.operations import verify as verify_operation
from scriptorium.operations.prune import prune
from scriptorium.process import no_child_outlives
from scriptorium.requests import (
    BackupRequest,
    CopyRequest,
    DrillRequest,
    PruneRequest,
    RestoreRequest,
    UndoRequest,
    VerifyRequest,
)
from scriptorium.retention import Policy
from scriptorium.settings import Settings, load
from scriptorium.words import Compression


class Ended(BaseException):
    """A signal asked us to end."""


def _moving(_: int) -> None:
    reach("driver.bytes-moved")


def backup(settings: Settings, *, now: datetime | None = None, compression: str = "gzip") -> str:
    """Take a full backup; returns its id. A store that has no copy is an error here, as it is an exit code there."""
    request = BackupRequest(compression=Compression(compression))
    result = backup_operation.backup(settings, request, now=now, advance=_moving)
    for error in result.failed.values():
        raise error
    return result.backup.id


def restore(settings: Settings, reference: str = "", *, clean: bool = False) -> str:
    """Restore the oldest backup (or the named one) over the living data."""
    backup = reference or Catalog(settings).backups(records=False)[-1].id
    request = RestoreRequest(reference=backup, clean=clean, safety=False)  # none is taken here
    return restore_operation.restore(settings, request, advance=_moving).backup


def restore_clean(settings: Settings) -> str:
    """Restore into the living database, in one transaction."""
    return restore(settings, clean=True)


def undo(settings: Settings) -> str:
    """Put back what the restore replaced."""
    return undo_operation.undo(settings, UndoRequest(safety=False)).undone


def verify(settings: Settings) -> str:
    """Verify every copy of every backup; returns which are damaged, by id and store."""
    result = verify_operation.verify(settings, VerifyRequest(), advance=_moving)
    return ",".join(f"{one.backup.id}:{one.copy.store}" for one in result.damaged)


def drill(settings: Settings) -> str:
    """Drill the newest backup; returns what was not as recorded."""
    with no_child_outlives():
        proof = drill_operation.drill(settings, DrillRequest(), advance=_moving).proof
    assert proof.proven == (not proof.differences and not proof.uncompared)
    return "; ".join((*proof.differences, *proof.uncompared))


def cleanup(settings: Settings) -> str:
    """Keep only the newest backup; returns the ids of those that were removed."""
    return ",".join(prune(settings, PruneRequest(policy=Policy(last=1))).removed)


def copy(settings: Settings) -> str:
    """Copy the newest backup into the store ``second``; returns the store that it came from."""
    (made,) = copy_operation.copy(settings, CopyRequest(to=("second",)), advance=_moving).copied
    return made.source


def rebuild(settings: Settings) -> str:
    """Make the catalog again from the manifests."""
    return str(Catalog(settings).rebuild())


def listed(settings: Settings) -> str:
    """Every copy that is listed, by id, store and status."""
    found = Catalog(settings).backups(records=False)
    return ",".join(f"{one.id}:{copy.store}:{copy.status}" for one in found for copy in one.copies)


OPERATIONS: dict[str, Callable[[Settings], str]] = {
    "backup": backup,
    "restore": restore,
    "restore-clean": restore_clean,
    "undo": undo,
    "drill": drill,
    "verify": verify,
    "cleanup": cleanup,
    "copy": copy,
    "rebuild": rebuild,
    "list": listed,
}


def _end(number: int, _: FrameType | None) -> None:
    raise Ended(signal.Signals(number).name)


def main(operation: str, file: str) -> int:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    began = datetime.now(UTC)
    try:
        print(OPERATIONS[operation](load(Path(file), {})))
    except Ended as ended:
        print(f"ended by {ended} after {datetime.now(UTC) - began}", file=sys.stderr)
        return 130
    except ScriptoriumError as error:
        print(f"error: {error}\n  {error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
