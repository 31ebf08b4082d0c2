"""Alexandria: a PostgreSQL database, the book files below ``library/``, configuration beside them.

The parts: ``postgres/<database>/`` with ``postgres/globals.sql``, ``library/``, and the configuration's own names.
The database comes first: a file without a row is harmless, a row without a file is not.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from scriptorium.errors import SettingsError, Untrusted
from scriptorium.fs.descriptors import read_file
from scriptorium.model import Check
from scriptorium.presets.checks import Answers, Files, Held, Places, broken, noted
from scriptorium.presets.surroundings import env_file

log = logging.getLogger(__name__)

DESCRIPTION = "Alexandria: PostgreSQL database, book files, settings"
KEYS = frozenset({"home", "database", "service", "files", "exclude", "volatile", "postgres"})
PATHS = frozenset({"home", "files"})

# The drop zone, files that the application makes again, and incomplete files. ``volatile = true`` saves them as well.
VOLATILE = ("/.returns", "/tts-cache", "*.tmp", "*.temp", "*.part", "__pycache__", ".DS_Store", "Thumbs.db")
CONFIGURATION = (
    ".env",
    "docker-compose.yml",
    "docker-compose.prod.yml",
    "docker-compose.override.yml",
    "pyproject.toml",
    "alembic.ini",
)
# The application's own defaults, if it is configured by variables.
_DEFAULTS = {"HOST": "localhost", "PORT": "5433", "NAME": "alexandria", "USER": "alexandria"}
_PREFIX = "ALEXANDRIA_"

# Queries that are run in the snapshot and in the restored database. Both have an empty search_path, so the schema is
# named. Paths are relative to the library's folder.
STATEMENTS = {
    "files": "SELECT file_path, size_bytes, checksum_sha256 FROM public.files",
    "pictures": (
        "SELECT cover_path FROM public.items WHERE cover_path <> '' UNION SELECT backdrop_path FROM public.items "
        "WHERE backdrop_path <> '' UNION SELECT photo_path FROM public.creators WHERE photo_path <> ''"
    ),
    "fileless": (
        "SELECT i.id, i.title FROM public.items i WHERE NOT EXISTS (SELECT FROM public.files f WHERE f.item_id = i.id)"
    ),
}
_LACKING = "files that the database names and the backup lacks"
_PICTURES_LACKING = "pictures that the database names and the backup lacks"
MISSING = frozenset({_LACKING, _PICTURES_LACKING})
_FILES = "library"
_LARGEST_INTEGER = 2**31  # size_bytes is an INTEGER: it cannot hold the size of a larger file


def looks_like(folder: Path) -> bool:
    """Whether an ``.env`` or compose file contains ``ALEXANDRIA_``, or there are ``library`` and ``alembic.ini``."""
    for name in (".env", "docker-compose.yml"):
        try:
            if _PREFIX in read_file(folder / name)[0].decode("utf-8", "replace"):
                return True
        except (OSError, Untrusted):
            continue
    return (folder / "alembic.ini").is_file() and (folder / "library").is_dir()


def sources(library: Mapping[str, object], variables: Mapping[str, str]) -> list[dict[str, object]]:
    """The database, the book files, the configuration.

    ``library``: ``database`` (a URL or libpq's words; without one the ``ALEXANDRIA_DB_*`` variables, or those of the
    ``.env`` in ``home``), ``service``, ``home`` (the folder of the installation), ``files`` (by default
    ``<home>/library``), ``exclude``, ``volatile`` (true: also what can be made again), and ``postgres`` (a table of
    settings for the database's source, such as ``password_file``).
    """
    home = _path(library, "home")
    known = {**_env_file(home), **{key: value for key, value in variables.items() if key.startswith(_PREFIX)}}
    files = _path(library, "files") or _files_folder(home, known)
    more, extra = library.get("postgres") or {}, library.get("exclude") or ()
    if not isinstance(extra, list | tuple) or not isinstance(more, dict):
        raise SettingsError("'exclude' is a list of patterns, 'postgres' a table")
    if files is None:
        raise SettingsError(
            "an Alexandria library needs 'files', the folder of its books, or 'home', the folder of its installation"
        )
    log.info("Alexandria%s: its books are in %s", f" in {home}" if home else "", files)
    volatile = () if library.get("volatile") is True else VOLATILE
    found: list[dict[str, object]] = [
        {
            "name": "postgres",
            "kind": "postgres",
            "at": "postgres",
            "statements": STATEMENTS,
            **_database(library, known),
            **more,
        },
        {"name": "library", "kind": "files", "path": str(files), "at": _FILES, "exclude": [*volatile, *extra]},
    ]
    if home is not None:
        found.append(
            {
                "name": "config",
                "kind": "files",
                "role": "config",
                "path": str(home),
                "at": "",
                "include": [f"/{name}" for name in CONFIGURATION],
            }
        )
    return found


def _path(library: Mapping[str, object], key: str) -> Path | None:
    value = library.get(key)
    return Path(str(value)).expanduser() if value else None


def _files_folder(home: Path | None, known: Mapping[str, str]) -> Path | None:
    named = known.get("ALEXANDRIA_LIBRARY_ROOT")
    if home is None:
        return Path(named) if named and Path(named).is_absolute() else None
    return home / (named or "library")


def _database(library: Mapping[str, object], known: Mapping[str, str]) -> dict[str, object]:
    if library.get("database") or library.get("service"):
        return {key: str(library[key]) for key in ("database", "service") if library.get(key)}
    given = {key: known.get(f"{_PREFIX}DB_{key}") or default for key, default in _DEFAULTS.items()}
    words = {"host": given["HOST"], "port": given["PORT"], "dbname": given["NAME"], "user": given["USER"]}
    password = known.get(f"{_PREFIX}DB_PASSWORD")
    return {
        "database": " ".join(f"{key}={_quoted(value)}" for key, value in words.items()),
        **({"password": password} if password else {}),
    }


def _quoted(value: str) -> str:
    """A value, quoted for libpq's words."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def doubts(library: Mapping[str, object], variables: Mapping[str, str]) -> tuple[str, ...]:
    """A line for each database or folder of books that the settings and the application's own ``.env`` name
    differently."""
    home = _path(library, "home")
    known = _env_file(home)
    found = []
    configured, own = _path(library, "files"), _files_folder(home, known)
    both = configured and own and known.get("ALEXANDRIA_LIBRARY_ROOT") and configured.is_dir() and own.is_dir()
    if both and configured and own and not configured.samefile(own):
        found.append(f"'files' of the settings is {configured}, ALEXANDRIA_LIBRARY_ROOT of {home}/.env is {own}")
    name, used = _database_name(str(library.get("database") or "")), known.get(f"{_PREFIX}DB_NAME")
    if name and used and name != used:
        found.append(f"'database' of the settings is '{name}', ALEXANDRIA_DB_NAME of {home}/.env is '{used}'")
    return tuple(found)


def _database_name(conninfo: str) -> str | None:
    """The name of the database in a URL or in libpq's words; ``None`` if there is none."""
    if "://" in conninfo:
        parts = urlsplit(conninfo)
        asked = parse_qs(parts.query).get("dbname")
        return asked[-1] if asked else unquote(parts.path.lstrip("/")) or None
    word = re.search(r"""(?:^|\s)dbname\s*=\s*(?:'((?:[^'\\]|\\.)*)'|(\S+))""", conninfo)
    return (word[1] or word[2]).replace("\\", "") if word else None


def _env_file(home: Path | None) -> dict[str, str]:
    """The application's own variables, from the ``.env`` that it reads."""
    if home is None:
        return {}
    return {key: value for key, value in env_file(home / ".env").items() if key.startswith(_PREFIX)}


def checks(answers: Answers, files: Files, places: Places) -> tuple[Check, ...]:
    """Checks that every catalogued file exists with the recorded size and checksum, and every picture; lists items
    without a file, and files that nothing names. Files are checked if the backup's type includes the library's files,
    even if there are none: in an emptied folder (a missing mount) every file is missing.
    """
    found = []
    if "fileless" in answers:
        found.append(noted("items without a file", (f"{row[1]} ({row[0]})" for row in answers["fileless"])))
    if "files" not in answers or _FILES not in places:
        return tuple(found)
    folder = f"{_FILES}/"
    held = {path.removeprefix(folder): file for path, file in files.items() if path.startswith(folder)}
    rows = [(row[0] or "", row[1], row[2]) for row in answers["files"]]
    found.append(broken(_LACKING, (p for p, _, _ in rows if p not in held)))
    found.append(
        broken(
            "files that are not what the database records",
            (path for path, size, sha256 in rows if path in held and _differs(held[path], size, sha256)),
        )
    )
    pictures = {row[0] for row in answers.get("pictures", ()) if row[0]}
    found.append(broken(_PICTURES_LACKING, pictures - held.keys()))
    named = {path for path, _, _ in rows} | pictures
    found.append(noted("files that nothing in the database names", held.keys() - named))
    return tuple(found)


def _differs(held: Held, size: str | None, sha256: str | None) -> bool:
    if size is not None and held.size < _LARGEST_INTEGER and int(size) != held.size:
        return True
    return bool(sha256 and held.sha256 and sha256.lower() != held.sha256)
