"""Bibliotheca: a Kuzu database, covers and uploads under ``data/``, configuration beside it.

The parts keep the paths that the application's documentation promises: ``data/`` (the database at
``data/kuzu/bibliotheca.db``), ``config.py``, ``.env``, ``docker-compose.yml``, ``requirements.txt``. Settings that the
application keeps inside ``data/`` travel with ``data/``: a part owns one path, so that a restore needs no patterns.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

from scriptorium.errors import SettingsError
from scriptorium.model import Check, Rows
from scriptorium.presets.bibliotheca_place import DATABASE_FILE, place
from scriptorium.presets.checks import Answers, Files, Places, broken, noted
from scriptorium.presets.surroundings import links_between

log = logging.getLogger(__name__)

DESCRIPTION = "Bibliotheca: Kuzu database, covers, uploads, settings"
KEYS = frozenset({"home", "data", "database_file", "exclude", "kuzu"})
PATHS = frozenset({"home", "data", "database_file"})

# Many files that a backup does not need: the application makes them again, or they are its own backups.
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
_TAILS = ("", ".wal", ".shadow", ".tmp")
CONFIGURATION = (
    "config.py",
    ".env",
    "docker-compose.yml",
    "docker-compose.dev.yml",
    "docker-compose.override.yml",
    "requirements.txt",
    "pyproject.toml",
)


# Queries that are run in the snapshot and in the restored database. If a table is missing, a query has no answer.
STATEMENTS = {
    "covers": "MATCH (b:Book) WHERE b.cover_url IS NOT NULL AND b.cover_url <> '' RETURN b.cover_url",
    "portraits": "MATCH (p:Person) WHERE p.image_url IS NOT NULL AND p.image_url <> '' RETURN p.image_url",
    "ownerless": (
        "MATCH (b:Book) WHERE NOT EXISTS { MATCH (:User)-[:HAS_PERSONAL_METADATA]->(b) } RETURN b.id, b.title"
    ),
    "owned": "MATCH (:User)-[:HAS_PERSONAL_METADATA]->(b:Book) RETURN count(DISTINCT b.id)",
    "newest": (
        "MATCH (b:Book) WHERE b.created_at IS NOT NULL RETURN b.id, "
        "EXISTS { MATCH (:User)-[:HAS_PERSONAL_METADATA]->(b) } ORDER BY b.created_at DESC LIMIT 1"
    ),
    "nameless": "MATCH (p:Person)-[:AUTHORED]->(b:Book) WHERE p.name IS NULL OR p.name = '' RETURN p.id, b.title",
}
_LACKING = "covers that a book names and the backup lacks"
_PORTRAITS_LACKING = "portraits that a person names and the backup lacks"
MISSING = frozenset({_LACKING, _PORTRAITS_LACKING})
_FILES = "data"
_COVERS = f"{_FILES}/covers/"
_SERVED = ("covers/", "uploads/")  # folders of data/ that the application shows under their names


def looks_like(folder: Path) -> bool:
    """Whether there is a ``data/kuzu`` folder, which only this application has."""
    return (folder / "data" / "kuzu").is_dir()


def sources(library: Mapping[str, object], variables: Mapping[str, str]) -> list[dict[str, object]]:
    """The database, the user's files, the configuration.

    ``library``: ``home`` (the folder of the installation), optionally ``data``, ``database_file``, ``exclude``, and
    ``kuzu`` (a table of settings for the database's source, such as ``quiesce``).
    """
    home = _home(library)
    found = place(home, library, variables)
    data, database = found.data, found.database
    log.info("Bibliotheca in %s: its data is in %s, its database is %s", home, data, database)
    extra = library.get("exclude") or ()
    more = library.get("kuzu") or {}
    if not isinstance(extra, list | tuple) or not isinstance(more, dict):
        raise SettingsError("'exclude' is a list of patterns, 'kuzu' a table")
    inside = database.relative_to(data).as_posix() if database.is_relative_to(data) else None
    usual = f"kuzu/{DATABASE_FILE}"  # if the database is elsewhere, a file here is a previous one
    own_database = [f"/{at}{tail}" for at in dict.fromkeys((inside or usual, usual)) for tail in _TAILS]
    links = [f"/{link}" for link in links_between(data, database.parent)]  # the source 'kuzu' saves the database
    return [
        {
            "name": "kuzu",
            "kind": "kuzu",
            "path": str(database),
            "at": f"data/{inside or usual}",
            "statements": STATEMENTS,
            "remarks": found.unknown,
            **more,
        },
        {
            "name": "data",
            "kind": "files",
            "path": str(data),
            "at": _FILES,
            "exclude": [*VOLATILE, *own_database, *links, *extra],
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


def doubts(library: Mapping[str, object], variables: Mapping[str, str]) -> tuple[str, ...]:
    """Reasons why the application may use other places than the settings name."""
    return place(_home(library), library, variables).doubts


def _home(library: Mapping[str, object]) -> Path:
    home = library.get("home")
    if not isinstance(home, str | Path):
        raise SettingsError("a Bibliotheca library needs 'home', the folder of its installation")
    return Path(home)


def checks(answers: Answers, files: Files, places: Places) -> tuple[Check, ...]:
    """Checks that books have owners, persons have names, and covers exist; lists covers that no book names.

    The database is checked if it answered. Files are checked if the backup's type also includes the library's files,
    even if there are none: in an emptied folder every cover is missing.
    """
    found = []
    if "ownerless" in answers:
        judged = broken if _owners_are_given(answers) else noted
        found.append(judged("books without an owner", (f"{row[1]} ({row[0]})" for row in answers["ownerless"])))
    if "nameless" in answers:
        found.append(broken("contributors without a name", (f"{row[0]} of {row[1]}" for row in answers["nameless"])))
    if "covers" in answers and _FILES in places:
        covers = {path for path in files if path.startswith(_COVERS)}
        named, portraits = _named(answers["covers"], files), _named(answers.get("portraits", ()), files)
        found.append(broken(_LACKING, named - files.keys()))
        if "portraits" in answers:
            found.append(broken(_PORTRAITS_LACKING, portraits - files.keys()))
        found.append(noted("covers that no book names", covers - named - portraits))
    return tuple(found)


def _owners_are_given(answers: Answers) -> bool:
    """Whether the application gives each new book an owner. Some versions do not; then a book without an owner is
    normal, and a daily warning would not help."""
    if answers.get("newest"):
        return answers["newest"][0][1] == "True"
    return bool(answers.get("owned")) and answers["owned"][0][0] != "0"


def _named(rows: Rows, files: Files) -> set[str]:
    return {path for row in rows if (path := _cover(row[0] or "", files))}


def _cover(url: str, files: Files) -> str | None:
    """The path in the archive of the cover with this address; ``None`` if it is not a file of the library: on the
    network, contained in the address itself, or a picture of the application."""
    if "://" in url or url.startswith(("//", "data:")):
        return None
    written = url.partition("?")[0].lstrip("/")
    path = written.removeprefix("static/").removeprefix("data/")
    if not path.startswith(_SERVED):
        if written.startswith("static/"):
            return None
        path = f"covers/{path}"
    found = f"{_FILES}/{path}"
    return found if found in files else unquote(found, errors="surrogateescape")  # a name may really contain a %
