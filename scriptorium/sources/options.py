"""The options of a restore: one frozen model for each kind of source that has its own, and whom files belong to.

They are made once, from the request, and given to every source unchanged: each uses those of its own kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict

from scriptorium.fs.owners import AS_RECORDED, Ownership, ownership
from scriptorium.sources.kuzu.options import KuzuRestoreOptions
from scriptorium.sources.postgres.options import PostgresRestoreOptions


class RestoreOptions(BaseModel):
    """The options of all kinds; a kind that has none (files) has no line here. ``ownership``: of the restored files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kuzu: KuzuRestoreOptions = KuzuRestoreOptions()
    postgres: PostgresRestoreOptions = PostgresRestoreOptions()
    ownership: Ownership = AS_RECORDED

    @classmethod
    def chosen(cls, words: Mapping[str, object]) -> Self:
        """The options of all kinds in the fields of a request; other fields (a target, a store) are ignored."""
        owner = words.get("owner")
        return cls.model_validate(
            {
                kind: {name: words[name] for name in type(options).model_fields if name in words}
                for kind, options in cls()
                if isinstance(options, BaseModel)
            }
            | {"ownership": ownership(owner if isinstance(owner, str) else None)}
        )


AS_CONFIGURED = RestoreOptions()
