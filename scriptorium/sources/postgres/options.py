"""The user's options for the restore of a PostgreSQL database."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class PostgresRestoreOptions(BaseModel):
    """Each option can be set here or in the settings of the source.

    ``clean``: restore into the living database, in one transaction. ``without_roles``: restore although roles or
    tablespaces are missing. ``without_broken_constraints``: restore although rows break constraints; these are left
    out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clean: bool = False
    without_roles: bool = False
    without_broken_constraints: bool = False
