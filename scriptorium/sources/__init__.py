"""The sources; the union is the registry: a new one is its module and a line here."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from scriptorium.sources.base import Incoming, Source
from scriptorium.sources.files import FilesSource
from scriptorium.sources.kuzu import KuzuSource

AnySource = Annotated[KuzuSource | FilesSource, Field(discriminator="kind")]

__all__ = ["AnySource", "FilesSource", "Incoming", "KuzuSource", "Source"]
