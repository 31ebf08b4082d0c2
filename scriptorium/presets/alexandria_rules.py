"""The rules of Alexandria's database: rows that belong together exist, and files are where their rows say.

``database check`` and drills apply them; the checks of a backup are in ``alexandria.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from scriptorium.model import Finding, Rows
from scriptorium.presets.checks import DatabaseRules, Rule, findings

_RULES = (
    Rule(
        "item without files",
        "items",
        "SELECT i.id || ' ' || left(i.title, 60) FROM public.items i "
        "WHERE NOT EXISTS (SELECT FROM public.files f WHERE f.item_id = i.id) ORDER BY i.id",
    ),
    Rule(
        "file without item",
        "files",
        "SELECT f.id || ' ' || f.file_path FROM public.files f "
        "WHERE NOT EXISTS (SELECT FROM public.items i WHERE i.id = f.item_id) ORDER BY f.id",
    ),
    Rule(
        "orphan",
        "item_creators",
        "SELECT c.item_id || ' ' || c.creator_id FROM public.item_creators c "
        "WHERE NOT EXISTS (SELECT FROM public.items i WHERE i.id = c.item_id) "
        "OR NOT EXISTS (SELECT FROM public.creators p WHERE p.id = c.creator_id) ORDER BY 1",
    ),
    Rule(
        "orphan",
        "reading_progress",
        "SELECT r.id::text FROM public.reading_progress r "
        "WHERE NOT EXISTS (SELECT FROM public.items i WHERE i.id = r.item_id) "
        "OR NOT EXISTS (SELECT FROM public.files f WHERE f.id = r.file_id) "
        "OR NOT EXISTS (SELECT FROM public.users u WHERE u.id = r.user_id) ORDER BY 1",
    ),
)
_TABLES = ("items", "files", "item_creators", "creators", "reading_progress", "users")
_LARGEST_INTEGER = 2**31  # size_bytes is an INTEGER: it cannot hold the size of a larger file
_BOOKS = {".epub", ".pdf", ".mobi", ".azw3", ".cbz", ".cbr", ".mp3", ".m4b", ".flac"}
_MADE_AGAIN = "tts-cache"


def compare_files(rows: Rows, folder: Path) -> Iterator[Finding]:
    """Compare the rows of ``files`` (path, size) with the folder of the books."""
    missing, different, known = [], [], set()
    for path, size in ((row[0] or "", row[1]) for row in rows):
        known.add(path)
        try:
            found = (folder / path).stat().st_size
        except OSError:
            missing.append(path)
            continue
        if size is not None and found != int(size) and found < _LARGEST_INTEGER:
            different.append(f"{path}: {found} bytes instead of {size}")
    yield from findings("missing file", "files", missing)
    yield from findings("different size", "files", different)
    yield from findings("file without row", "library", _unknown(folder, known))


def _unknown(folder: Path, known: set[str]) -> list[str]:
    """Books on disk that no row names. Paths that begin with a dot are the application's own."""
    found = []
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        own = any(step.startswith(".") for step in inside.parts) or inside.parts[0] == _MADE_AGAIN
        if path.suffix.lower() in _BOOKS and not own and inside.as_posix() not in known and path.is_file():
            found.append(inside.as_posix())
    return found


DATABASE = DatabaseRules(
    tables=frozenset(_TABLES),
    rules=_RULES,
    files="SELECT file_path, size_bytes FROM public.files ORDER BY id",
    compare_files=compare_files,
)
