"""A PostgreSQL server for the tests of a file or a folder: in memory, and without autovacuum."""

from __future__ import annotations

from pathlib import Path

from scriptorium.sources.postgres.embedded import EmbeddedPostgres

_MEMORY = Path("/dev/shm")  # thousands of small files, made and removed
# Tests leave hundreds of databases, and autovacuum would visit all of them every minute.
_OPTIONS = {"autovacuum": "off"}


def postgres_server(programs: Path | None = None) -> EmbeddedPostgres:
    """A server of these programs (default: the newest), not started yet."""
    return EmbeddedPostgres(programs, inside=_MEMORY if _MEMORY.is_dir() else None, options=_OPTIONS)
