"""What is configured of a PostgreSQL database besides its login."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import AliasChoices, Field, PrivateAttr

from scriptorium.limits import Seconds, SecondsOrNever, SourceName
from scriptorium.sources.postgres.dump.pieces import PIECE
from scriptorium.sources.postgres.login import Login
from scriptorium.words import Role

if TYPE_CHECKING:  # what does the work is loaded when there is work: settings alone are read for every `list`
    from scriptorium.sources.postgres.dump.snapshot import DumpOptions

_TOO_MANY_JOBS = 8


def useful_jobs(*, restoring: bool = False) -> int:
    """How many processes help. Of pg_dump: measured in benchmarks/postgres.py, two busy cores gain nothing from two. Of
    pg_restore: one for each core, since a table and an index are each made by one process of the server."""
    cores = os.cpu_count() or 1
    return max(1, min(_TOO_MANY_JOBS, cores if restoring else cores // 2))


class PostgresSettings(Login):
    """``database``: a URL or libpq's words; nothing means libpq's own variables. ``at``: its path in the archive, by
    default the source's name; the dump lies in ``<at>/<database>/``.

    ``dump``: copied into the workspace first ("stage"), which is faster, or read straight into the archive ("stream");
    "auto": streamed where the workspace has too little space for the copy.
    ``jobs``: processes of pg_dump and pg_restore (0: as many as help). ``lock_timeout``: seconds to wait for a table
    that is locked. ``statement_timeout``: seconds one table's fingerprint may take (0: no limit).
    ``stall_timeout``: seconds that pg_dump, pg_restore or psql may stand still (0: no limit). ``previous``: how many
    databases that a restore replaced are kept; its old name, ``former``, is still read. ``tools``: the folder of
    pg_dump, where it is not found by itself.
    ``without_roles``: restore although roles, tablespaces or extensions are missing. ``without_broken_constraints``:
    restore all rows although they break constraints, which are then left out. ``in_place``: restore into the
    living database in one transaction, for roles that may not create databases. ``target``: restore to this database
    instead. ``staging``: a folder for what a restore unpacks. ``drill``: where a drill restores to, a scratch
    database on the same ``server`` or an ``embedded`` server of its own. ``statements``: queries by name, put to every
    snapshot and to what is restored; a preset's checks read them.
    """

    kind: Literal["postgres"] = "postgres"
    name: SourceName = "postgres"
    at: str = ""
    role: Role = Role.DATABASE
    dump: Literal["auto", "stage", "stream"] = "auto"
    jobs: int = Field(default=0, ge=0, le=64)
    lock_timeout: Seconds = 60.0
    statement_timeout: SecondsOrNever = 0.0
    stall_timeout: SecondsOrNever = 900.0
    previous: int = Field(default=1, ge=0, le=1000, validation_alias=AliasChoices("previous", "former"))
    tools: Path | None = None
    without_roles: bool = False
    without_broken_constraints: bool = False
    in_place: bool = False
    target: str = ""
    staging: Path | None = None
    drill: Literal["server", "embedded"] = "server"
    statements: dict[str, str] = Field(default_factory=dict)

    piece: ClassVar[int] = PIECE
    _scratch: Path | None = PrivateAttr(default=None)

    @property
    def place(self) -> str:
        return self.at or self.name

    @property
    def dump_options(self) -> DumpOptions:
        from scriptorium.sources.postgres.dump.snapshot import DumpOptions

        jobs = self.jobs or useful_jobs()
        return DumpOptions(
            jobs,
            self.lock_timeout,
            self.statement_timeout,
            self.tools,
            self.statements,
            self.piece,
            self.stall_timeout,
        )

    @property
    def records_folder(self) -> Path:
        """Where it is recorded which databases restores and drills made, and which they replaced."""
        from scriptorium.sources.postgres.restore.staging import default_staging

        scratch = self._scratch or self.staging
        return (
            scratch / "databases"
            if scratch is not None
            else default_staging() / f"scriptorium-databases-{os.geteuid()}"
        )
