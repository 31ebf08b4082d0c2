"""Options of commands that work with a store by its address alone, without settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scriptorium.cli.output import current, meant

if TYPE_CHECKING:
    from scriptorium.settings import Settings

StoreUrl = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="This store alone, without settings: s3://…, restic:…, a folder."),
]
PasswordFile = Annotated[
    Path | None, typer.Option("--password-file", metavar="FILE", help="With --store URL: the repository's password.")
]
Identity = Annotated[
    Path | None, typer.Option("--identity", metavar="FILE", help="With --store URL: the private key (age).")
]


def chosen(store: str | None) -> tuple[Settings, str | None]:
    """The settings and the name of the store: a name of the settings, or an address, which replaces the settings."""
    from scriptorium.stores.addresses import is_address

    if store is None or not is_address(store):
        return current(), store
    from scriptorium.operations.bare_store import use_store_at

    return use_store_at(store), None


def meant_library(settings: Settings, library: str | None, *references: str) -> str | None:
    """The library whose backup is meant; of a store by its address, one of those that are in it."""
    if settings.libraries:
        return meant(settings, library, *references)
    from scriptorium.operations.bare_store import library_in

    return library_in(settings, library) if library or "latest" in references else None
