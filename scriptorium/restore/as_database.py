"""Restoring a database under another name. The living database is not changed."""

from __future__ import annotations

import logging

from scriptorium.errors import UsageError
from scriptorium.fs.free_space import nearest_folder
from scriptorium.progress import Advance
from scriptorium.restore.supply import Restored, Supply, compared, load_parts, read_parts, restore_warnings
from scriptorium.settings import Library
from scriptorium.sources.abilities import renamed as renamed_as

log = logging.getLogger(__name__)


def restore_as(
    library: Library, supply: Supply, restore_id: str, name: str, *, advance: Advance | None = None
) -> Restored:
    """Restore the backup's database as the new database ``name``. It is compared before it gets that name.

    ``UsageError`` if the backup contains no database of a server, or several. After a failure nothing is left.
    """
    renamed = {source.name: other for source in library.sources if (other := renamed_as(source, name)) is not None}
    parts = [part for part in supply.manifest.parts if part.source in renamed]
    if len(parts) != 1:
        raise UsageError(
            "a database by another name needs a backup with one database of a server",
            on=supply.manifest.name,
            hint="restore to a folder: --restore-path DIR",
        )
    (part,) = parts
    log.info("%s of %s is restored as the database %s", part.source, supply.manifest.name, name)
    incoming = renamed[part.source].incoming(part, restore_id, options=supply.options)
    try:
        incoming.prepare()
        root = incoming.receive(part.path)
        roots = [nearest_folder(root)] if root is not None else []
        read = read_parts(supply, {part.source: incoming}, roots, advance=advance)
        loaded = load_parts(supply, {part.source: incoming}, read.parts)
        incoming.switch()
    except BaseException:
        incoming.undo()
        raise
    incoming.finish()
    tables, comparison = compared(supply, {part.source: incoming}, loaded)
    warnings = restore_warnings({part.source: incoming}, [part])
    return Restored(f"database {name}", read.files, read.bytes, tables, read.parts, warnings, comparison)
