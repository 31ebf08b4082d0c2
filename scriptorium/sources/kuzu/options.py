"""The options for the restore of a Kuzu database."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class KuzuRestoreOptions(BaseModel):
    """``rebuild``: the database is made from its logical export instead of the raw copy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rebuild: bool = False
