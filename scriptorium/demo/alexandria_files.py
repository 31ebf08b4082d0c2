"""The files of an Alexandria library: books where their rows say they are, and files that a backup may leave out."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from scriptorium.demo import words
from scriptorium.demo.installation import picture

_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
_LONGEST = 120
_LEAST, _MOST = 8_000, 60_000  # bytes; real books have a hundred times as much
ENV = """ALEXANDRIA_DB_HOST={host}
ALEXANDRIA_DB_PORT={port}
ALEXANDRIA_DB_NAME={name}
ALEXANDRIA_DB_USER={user}
ALEXANDRIA_LIBRARY_ROOT=./library
"""


@dataclass(frozen=True, slots=True)
class BookFile:
    """A file as its row in ``files`` describes it; ``path`` relative to the library's root."""

    path: str
    format: str
    size: int
    md5: str
    sha256: str


def folder_name(author: str, title: str) -> str:
    """``Author - Title`` as the application writes it: NFC, without what filesystems refuse, not too long."""
    name = unicodedata.normalize("NFC", f"{author} - {title}")
    return _FORBIDDEN.sub("", name)[:_LONGEST].strip(" .") or "Unknown"


def write_book(root: Path, number: int, author: str, title: str, shelf: str, seed: int) -> BookFile:
    """Write one book (bytes that cannot be compressed, like those of real ones) and its cover."""
    chance = words.luck(f"book {seed} {number}")
    kind = chance.choice(("epub", "epub", "pdf", "mp3", "cbz"))
    folder = f"{shelf}/{folder_name(author, title)}"
    if (root / folder).exists():
        folder += f" ({number})"
    path = f"{folder}/{folder_name(author, title)}.{kind}"
    content = chance.randbytes(chance.randint(_LEAST, _MOST))
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(content)
    if number % 10 == 0:
        (root / folder / "cover.jpg").write_bytes(picture(chance))
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return BookFile(path, kind, len(content), md5, hashlib.sha256(content).hexdigest())


def write_around(home: Path, seed: int) -> None:
    """Configuration beside the library, and what the application can make again."""
    chance: Random = words.luck(f"around {seed}")
    root = home / "library"
    for name, content in _around(chance):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (home / "docker-compose.yml").write_text("services:\n  postgres:\n    image: postgres:17-alpine\n")


def _around(chance: Random) -> Iterator[tuple[str, bytes]]:
    yield ".returns/just arrived.epub", chance.randbytes(5000)
    yield ".trash/soft deleted.pdf", chance.randbytes(5000)
    yield ".covers/1.png", picture(chance)
    yield ".backdrops/1.png", picture(chance, width=300, height=100)
    for chapter in range(3):
        yield f"tts-cache/1/{chapter}.mp3", chance.randbytes(3000)
    yield "Fiction/.upload-1234.tmp", b"half"
