"""The settings of a PostgreSQL source, besides its login."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import AliasChoices, Field, PrivateAttr

from scriptorium.limits import Seconds, SecondsOrNever, SourceName
from scriptorium.sources.postgres.dump.pieces import PIECE
from scriptorium.sources.postgres.login import Login
from scriptorium.words import Role

if TYPE_CHECKING:  # these modules are imported only when needed: every `list` reads the settings
    from scriptorium.sources.postgres.dump.snapshot import DumpOptions

_TOO_MANY_JOBS = 8


def useful_jobs(*, restoring: bool = False) -> int:
    """How many processes make it faster. pg_dump: one for two cores (two on two busy cores gain nothing, as
    benchmarks/postgres.py shows). pg_restore: one for each core, because one process of the server builds one table or
    index."""
    cores = os.cpu_count() or 1
    return max(1, min(_TOO_MANY_JOBS, cores if restoring else cores // 2))


class PostgresSettings(Login):
    """``database``: a URL or libpq's words; empty: libpq's own variables. ``at``: its path in the archive, by default
    the source's name; the dump is in ``<at>/<database>/``.

    ``dump``: copied into the workspace first ("stage"), which is faster, or written directly into the archive
    ("stream"); "auto": streamed if the workspace has too little space for the copy. ``jobs``: processes of pg_dump and
    pg_restore (0: chosen by the number of cores). ``lock_timeout``: seconds to wait for a locked table.
    ``statement_timeout``: seconds that the fingerprint of one table may take (0: no limit). ``stall_timeout``: seconds
    that pg_dump, pg_restore or psql may make no progress (0: no limit). ``previous``: how many replaced databases are
    kept; its old name, ``former``, is still read. ``tools``: the folder of pg_dump, if it is not found automatically.
    ``without_roles``: restore although roles or tablespaces are missing. ``without_broken_constraints``: restore all
    rows although they break constraints; these are left out. ``in_place``: restore into the living database in one
    transaction, for roles that may not create databases. ``target``: restore to this database instead. ``staging``: the
    folder into which a restore unpacks. ``drill``: a drill restores to a scratch database on the same ``server``, or to
    an ``embedded`` server of its own. ``statements``: queries by name, run in every snapshot and after every restore; a
    preset's checks use the answers.
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
        """The folder in which it is recorded which databases restores and drills made and replaced."""
        from scriptorium.sources.postgres.restore.staging import default_staging

        scratch = self._scratch or self.staging
        return (
            scratch / "databases"
            if scratch is not None
            else default_staging() / f"scriptorium-databases-{os.geteuid()}"
        )
