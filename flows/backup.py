"""Take a backup: snapshot every source, archive, verify, upload to every store."""

from __future__ import annotations

from prefect import flow

from flows.runs import concluded, given, publish
from scriptorium.model import Backup
from scriptorium.operations.backup import finished, plan_backup, running, store_copies
from scriptorium.operations.completion import complete_earlier
from scriptorium.report.backup import backup_report
from scriptorium.requests import AnyTier, BackupRequest, Line, MaybeCompression, MaybeType, Name, Names
from scriptorium.settings import current
from scriptorium.words import Tier
from tasks.read import check, read
from tasks.snapshot import snapshot
from tasks.stores import check_space, copy, upload


def _name() -> str:
    chosen = given()
    tier = Tier.parse(chosen.get("tier", "manual"))
    return f"{tier} {chosen.get('type', current().type_of(tier))} backup of {chosen.get('library', 'the library')}"


@flow(name="backup", flow_run_name=_name, persist_result=False)
def backup(
    library: str | None = None,
    type: MaybeType = None,
    tier: AnyTier = Tier.MANUAL,
    name: Name = "",
    description: Line = "",
    to: Names = (),
    compression: MaybeCompression = None,
) -> Backup:
    """Take a backup of a library and verify it.

    Args:
        library: A name from the settings; not needed when there is only one.
        type: What is saved. Default: the tier's type, else full.
        tier: The tier, which decides how long the backup is kept.
        name: The name you will look for. Default: made from type and time.
        description: One line about the backup.
        to: Stores by name. Default: the tier's stores, else all.
        compression: Default: as in the settings.
    """
    plan = plan_backup(current(), BackupRequest(**locals()))
    with running(current(), plan) as folder:
        space = check_space(plan)
        staged = [snapshot(plan, source, folder, space) for source in plan.sources]
        prepared = read(plan, staged, folder, space)
        checked = check(prepared)
        copies, failed = store_copies(current(), plan, lambda store: upload(plan, prepared, checked, store))
    result = complete_earlier(current(), finished(plan, prepared, copies, failed), copy)
    publish(backup_report(result))
    return concluded(result.backup, [result.backup])


def take(request: BackupRequest) -> Backup:
    """Run this flow inside another one."""
    taken: Backup = backup(**request.parameters())
    return taken
