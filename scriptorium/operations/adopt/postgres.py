"""A dump of PostgreSQL that ``librarian backup`` or ``pg_dump`` wrote: kept as it is, a file or a folder.

Its restore needs no special case: the source of kind ``postgres`` loads every format like its own dumps.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from scriptorium.fs import reflink
from scriptorium.manifest import readable
from scriptorium.model import Provenance, Staged, Tree
from scriptorium.operations.adopt.file_type import Form
from scriptorium.operations.adopt.metadata import Foreign, described_as, name_of, time_of
from scriptorium.operations.adopt.staging import Staging
from scriptorium.settings import Library
from scriptorium.sources.abilities import takes_dumps
from scriptorium.words import BackupType
from scriptorium.workspace import require_space


def stage(
    file: Path, form: Form, sha256: str, library: Library, folder: Path, now: datetime, *, trusted: bool = False
) -> Staging:
    """The dump as a part of ``library``, copied below ``folder``.

    Raises ``DamageFound``, ``UnsafeArchive``, ``NoSpace``.
    """
    source, dumps = next((one, able) for one in library.sources if (able := takes_dumps(one)) is not None)
    script = form is Form.SQL
    files = sorted(file.iterdir()) if file.is_dir() else [file]
    require_space(folder, 2 * sum(one.stat().st_size for one in files), f"adopting {readable(file.name)}")
    found = dumps.read_foreign(file, name_of(file), script=script, trusted=trusted)
    created, when = time_of(found.taken or None, file, now)
    part = folder / "part"
    part.mkdir(mode=0o700)
    target = part / f"{found.name}{found.ending}"
    if file.is_dir():
        target.mkdir(mode=0o700)
    for one in files:
        _copy(one, target / one.name if file.is_dir() else target)
    os.utime(target, ns=(file.stat().st_mtime_ns, file.stat().st_mtime_ns))
    program = f"pg_dump {found.program}" if found.program else "pg_dump"
    staged = Staged(
        source=source.name,
        kind=source.kind,
        path=source.place,
        method=f"adopted ({program}, {found.format}){'; trusted' if trusted else ''}",
        provenance=Provenance(adopted=True, trusted=trusted, script=script, dumper=found.program),
        started_at=created,
        finished_at=created,
        trees=(Tree(root=str(part), at=source.place),),
        engine_version=found.server or None,
    )
    foreign = Foreign(name_of(file), described_as(file, sha256), created, form.value, when)
    return Staging(foreign, BackupType.DATABASE, (staged,), (*when, *found.warnings, *_trust(form, trusted)))


def _copy(file: Path, target: Path) -> None:
    found = file.stat()
    with reflink.opened(file) as opened:
        reflink.copy(opened, target, found.st_size, lambda _: None)
    os.utime(target, ns=(found.st_mtime_ns, found.st_mtime_ns))


def _trust(form: Form, trusted: bool) -> Iterator[str]:
    yield (
        "a dump is one consistent state of the database, but this one has no fingerprints of its tables: a restore of "
        "it cannot be compared with anything"
    )
    if form is Form.SQL:
        yield "SQL is a program that a restore runs, so its origin must be known"
    if trusted:
        yield "its statements were not examined (--trust): it is not known what they do on the server's machine"
