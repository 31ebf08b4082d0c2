"""Bibliotheca: a Kuzu database, covers and uploads under ``data/``, configuration beside it.

The parts keep the paths that the application's documentation promises: ``data/`` (the database at
``data/kuzu/bibliotheca.db``), ``config.py``, ``.env``, ``docker-compose.yml``, ``requirements.txt``. Settings that the
application keeps inside ``data/`` travel with ``data/``: a part owns one path, so that a restore needs no patterns.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from scriptorium.errors import SettingsError

DESCRIPTION = "Bibliotheca: Kuzu database, covers, uploads, settings"
KEYS = frozenset({"home", "data", "database_file", "exclude", "kuzu"})
PATHS = frozenset({"home", "data", "database_file"})

# Made anew by the application, or backups of its own: of no use in a backup, and many.
VOLATILE = (
    "/backups",
    "/kuzu_backups",
    "/corrupt_backups",
    "/kuzu.pre_restore_*",
    "/flask_sessions",
    "/locks",
    "/logs",
    "*.lock",
    "*.pid",
    "*.tmp",
    "__pycache__",
)
CONFIGURATION = (
    "config.py",
    ".env",
    "docker-compose.yml",
    "docker-compose.dev.yml",
    "docker-compose.override.yml",
    "requirements.txt",
    "pyproject.toml",
)


def looks_like(folder: Path) -> bool:
    """A ``data/kuzu`` folder is what only this application has."""
    return (folder / "data" / "kuzu").is_dir()


def sources(library: Mapping[str, object], variables: Mapping[str, str]) -> list[dict[str, object]]:
    """The database, the user's files, the configuration.

    ``library``: ``home`` (the folder of the installation), optionally ``data``, ``database_file``, ``exclude``, and
    ``kuzu`` (a table of settings for the database's source, such as ``quiesce``).
    """
    home_text = library.get("home")
    if not isinstance(home_text, str | Path):
        raise SettingsError("a Bibliotheca library needs 'home', the folder of its installation")
    home = Path(home_text)
    data = Path(str(library.get("data") or home / "data"))
    folder = Path(variables.get("KUZU_DB_PATH") or data / "kuzu")
    database = Path(str(library.get("database_file") or (home / folder) / "bibliotheca.db"))
    extra = library.get("exclude") or ()
    more = library.get("kuzu") or {}
    if not isinstance(extra, list | tuple) or not isinstance(more, dict):
        raise SettingsError("'exclude' is a list of patterns, 'kuzu' a table")
    inside = database.relative_to(data).as_posix() if database.is_relative_to(data) else None
    own_database = [f"/{inside}{tail}" for tail in ("", ".wal", ".shadow", ".tmp")] if inside else []
    return [
        {
            "name": "kuzu",
            "kind": "kuzu",
            "path": str(database),
            "at": f"data/{inside or 'kuzu/bibliotheca.db'}",
            **more,
        },
        {
            "name": "data",
            "kind": "files",
            "path": str(data),
            "at": "data",
            "exclude": [*VOLATILE, *own_database, *extra],
        },
        {
            "name": "config",
            "kind": "files",
            "role": "config",
            "path": str(home),
            "at": "",
            "include": [f"/{name}" for name in CONFIGURATION],
        },
    ]
