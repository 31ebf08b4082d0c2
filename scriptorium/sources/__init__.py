"""The sources; the union is the registry: a new one is its module and a line here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from scriptorium.sources.base import Incoming, Source
from scriptorium.sources.files import FilesSource
from scriptorium.sources.kuzu import KuzuSource
from scriptorium.sources.kuzu_layout import COMPANIONS, companion
from scriptorium.sources.postgres import PostgresSource

AnySource = Annotated[KuzuSource | PostgresSource | FilesSource, Field(discriminator="kind")]


def territory(source: AnySource) -> tuple[Path, ...]:
    """Living files that belong to a database alone: a tree of files that holds them neither saves nor replaces them."""
    if isinstance(source, KuzuSource):
        return (source.path, *(companion(source.path, ending) for ending in COMPANIONS))
    return ()


__all__ = ["AnySource", "FilesSource", "Incoming", "KuzuSource", "PostgresSource", "Source", "territory"]
