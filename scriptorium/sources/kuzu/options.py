"""What the user may say of how a Kuzu database is restored."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class KuzuRestoreOptions(BaseModel):
    """``rebuild``: the database is made from its logical export instead of the raw copy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rebuild: bool = False
