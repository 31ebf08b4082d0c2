"""Restore: into a folder, or over the living data with a safety backup first."""

from __future__ import annotations

from prefect import flow

from flows.backup import take
from flows.runs import given, of_library, publish
from scriptorium.operations import undo as undo_operation
from scriptorium.operations.restore import finished, save_first
from scriptorium.operations.undo import safety_of
from scriptorium.report.restore import restore_report, undo_report
from scriptorium.requests import MaybeFolder, MaybeOwner, Names, RestoreRequest, UndoRequest
from scriptorium.results import RestoreResult, UndoResult
from scriptorium.settings import current
from scriptorium.workspace.containment import contained
from tasks.restore import preflight, preflight_undo
from tasks.restore import restore as restore_data
from tasks.restore import undo as put_back


def _name() -> str:
    parameters = given()
    where = f"to {parameters['path']}" if "path" in parameters else "in place"
    return f"restore {parameters['reference']}{of_library()} {where}"


@flow(name="restore", flow_run_name=_name, persist_result=False)
def restore(
    reference: str,
    library: str | None = None,
    path: MaybeFolder = None,
    only: Names = (),
    store: str | None = None,
    rebuild: bool = False,
    clean: bool = False,
    safety: bool = True,
    database: str = "",
    without_roles: bool = False,
    without_broken_constraints: bool = False,
    owner: MaybeOwner = None,
) -> RestoreResult:
    """Restore a backup into a folder, as one database under a new name, or over the living data.

    Before living data is replaced, a verified safety backup of it is taken (tier before-restore).

    Args:
        reference: The backup: its id, 4 or more digits of it, its name, or latest.
        library: A name from the settings; needed for latest if there are several.
        path: The folder to restore into; without it, the living data is replaced.
        only: Glob patterns for paths in the archive, or a source by its name. Default: everything.
        store: The store whose copy is read. Default: the best copy.
        rebuild: Make Kuzu databases from their Parquet export.
        clean: The folder is replaced; in place, the living PostgreSQL database is replaced in one transaction.
        safety: Take a safety backup first; off only for data that is too broken to save.
        database: Restore one PostgreSQL database under this new name, beside the living one.
        without_roles: Also if roles or tablespaces that the database names are missing on the server.
        without_broken_constraints: Load all rows; constraints that they break are left out or apply to new rows only.
        owner: keep, me, or UID:GID. Default: as recorded if this runs as root, else the user that runs it.
    """
    request = RestoreRequest(**locals())
    with contained():
        plan = preflight(request)
        saved = save_first(plan.safety, take)
        restored = restore_data(plan)
    result = finished(current(), plan, restored, saved)
    publish(restore_report(result))
    return result


@flow(name="undo", flow_run_name=lambda: f"undo the last restore{of_library()}", persist_result=False)
def undo(library: str | None = None, safety: bool = True) -> UndoResult:
    """Undo the newest restore in place: put the previous data back, as long as it is kept.

    A safety backup of the living data is taken first. There is none if the restore was cut short: then the living data
    may be a mixture of old and new.

    Args:
        library: A name from the settings; not needed when there is only one.
        safety: Take a safety backup first; off only for data that is too broken to save.
    """
    request = UndoRequest(**locals())
    with contained():
        plan = preflight_undo(request)
        saved = save_first(safety_of(current(), plan), take)
        undone = put_back(plan.library)
    result = undo_operation.finished(current(), plan, undone, saved)
    publish(undo_report(result))
    return result
