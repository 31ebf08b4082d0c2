"""Drilling a database on a temporary server, which exists only during the drill."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from scriptorium.model import Finding, Part, Rows, TableFingerprint
from scriptorium.sources import abilities
from scriptorium.sources.base import Incoming
from scriptorium.sources.postgres.embedded import EmbeddedPostgres

_NAME = "drill"


class EmbeddedIncoming:
    """``beside``: returns the ``Incoming`` for a restore into a database of the server at the given address.

    The server runs from ``prepare`` to ``undo``. Nothing is switched.
    """

    def __init__(self, part: Part, beside: Callable[[str], Incoming]) -> None:
        self._part = part
        self._beside = beside
        self._server: EmbeddedPostgres | None = None
        self._inner: Incoming | None = None
        # these are also read after the server has been stopped
        self.answers: Mapping[str, Rows] = {}
        self.warnings: tuple[str, ...] = ()
        self.missing_fingerprints: Mapping[str, str] = {}
        self.rebuilt_views: Mapping[str, str] = {}

    def prepare(self) -> None:
        self._server = EmbeddedPostgres().start()
        self._inner = self._beside(self._server.address(_NAME))
        self._inner.prepare()

    def receive(self, member: str) -> Path | None:
        return self._inner.receive(member) if self._inner is not None else None

    def load(self) -> Mapping[str, TableFingerprint] | None:
        if self._inner is None:
            return None
        tables = self._inner.load()
        self.answers = self._inner.answers
        self.warnings = abilities.warnings_of(self._inner)
        self.missing_fingerprints = abilities.missing_fingerprints(self._inner)
        self.rebuilt_views = abilities.rebuilt_views(self._inner)
        return tables

    def check(self) -> tuple[Finding, ...]:
        return (abilities.check(self._inner) or ()) if self._inner is not None else ()

    def switch(self) -> None: ...

    def undo(self) -> None:
        try:
            if self._inner is not None:
                self._inner.undo()
        finally:
            if self._server is not None:
                self._server.stop()
            self._server = self._inner = None

    def finish(self) -> None:
        self.undo()
