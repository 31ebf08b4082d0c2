"""What the user may say of how a PostgreSQL database is restored."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class PostgresRestoreOptions(BaseModel):
    """Each adds to the settings of the source.

    ``clean``: into the living database, in one transaction. ``without_roles``: although roles or tablespaces are
    missing. ``without_broken_constraints``: although rows break constraints, which are then left out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clean: bool = False
    without_roles: bool = False
    without_broken_constraints: bool = False
