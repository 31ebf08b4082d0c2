"""The sources; the union is the registry: a new one is its module and a line here."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

from pydantic import Field, TypeAdapter, ValidationError

from scriptorium.errors import ToolMissing
from scriptorium.model import Part
from scriptorium.sources.abilities import tabular
from scriptorium.sources.base import Incoming, Source
from scriptorium.sources.files.source import FilesSource
from scriptorium.sources.kuzu.layout import COMPANIONS
from scriptorium.sources.kuzu.source import KuzuSource
from scriptorium.sources.options import AS_CONFIGURED, RestoreOptions
from scriptorium.sources.postgres.source import PostgresSource

if TYPE_CHECKING:
    from scriptorium.sources.postgres.embedded import EmbeddedPostgres

AnySource = Annotated[KuzuSource | PostgresSource | FilesSource, Field(discriminator="kind")]


@functools.cache
def _union() -> TypeAdapter[AnySource]:
    return TypeAdapter(AnySource)


def made_for(part: Part, place: Path) -> AnySource:
    """A source for a part that is not in the settings any more; its files, or its database, will be at ``place``."""
    raw: dict[str, object] = {"kind": part.kind, "name": part.source, "at": part.path}
    for model in get_args(get_args(AnySource)[0]):
        if model.model_fields["kind"].default == part.kind and "path" in model.model_fields:
            raw["path"] = place
    try:
        return _union().validate_python(raw)
    except ValidationError:
        raise ToolMissing(
            "this program knows no source of that kind", on=part.kind, hint="it needs a newer scriptorium"
        ) from None


def living_place(kind: str, path: str, database: str) -> dict[str, str]:
    """How the settings say where a source of this kind is: the path, or the address of a local server's database."""
    for model in get_args(get_args(AnySource)[0]):
        if model.model_fields["kind"].default == kind and "path" not in model.model_fields:
            return {"database": f"postgresql:///{database}"}
    return {"path": path}


def scratch_server() -> EmbeddedPostgres:
    """A temporary PostgreSQL server of our own; it runs as long as its block."""
    from scriptorium.sources.postgres.embedded import EmbeddedPostgres

    return EmbeddedPostgres()


def table_steps(part: Part, table: str) -> tuple[str, ...]:
    """The name of a part's table as its plain steps: schema and table, where its kind has schemas."""
    able = tabular(made_for(part, Path()))
    return (table,) if able is None else able.steps(table)


def beside(part: Part) -> tuple[str, ...]:
    """Paths in an archive that belong to the part although they are not below its own: the WAL of a database."""
    return tuple(f"{part.path}{ending}" for ending in COMPANIONS) if part.kind == "kuzu" else ()


__all__ = [
    "AS_CONFIGURED",
    "AnySource",
    "FilesSource",
    "Incoming",
    "KuzuSource",
    "PostgresSource",
    "RestoreOptions",
    "Source",
    "beside",
    "living_place",
    "made_for",
    "scratch_server",
    "table_steps",
]
