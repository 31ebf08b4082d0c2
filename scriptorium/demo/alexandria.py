"""Build an Alexandria library to try things on: a PostgreSQL database in the application's schema, and its files."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from scriptorium.demo import words
from scriptorium.demo.alexandria_files import ENV, BookFile, write_around, write_book
from scriptorium.demo.alexandria_schema import SCHEMA
from scriptorium.errors import UsageError

if TYPE_CHECKING:
    import psycopg

LIBRARY = "library"
COUNTER_KEY = "demo.writer.transactions"
_NOW = datetime(2025, 3, 1, 12, 0, 0, 123456)
_USERS = 20
Rows = Iterable[Sequence[object]]


@dataclass(frozen=True, slots=True)
class Summary:
    """What was built. ``tables``: rows of every table; ``bytes``: of the book files."""

    home: Path
    items: int
    files: int
    bytes: int
    tables: Mapping[str, int]
    seconds: float

    def __str__(self) -> str:
        people = f"{self.tables['creators']:,} authors, {self.tables['users']} users"
        progress = f"{self.tables['reading_progress']:,} reading positions"
        return f"{self.items:,} items, {people}, {progress}; {self.files:,} book files ({self.bytes / 1e6:.1f} MB)"


def build_alexandria(
    server_conninfo: str,
    home: Path,
    *,
    items: int = 5000,
    files: int = 500,
    seed: int = 1,
    advance: Callable[[str], None] | None = None,
) -> Summary:
    """Fill the empty database ``server_conninfo`` and the empty folder ``home`` (``UsageError`` when they are not).

    The first ``files`` items have a book file in ``home/library``, with its true size and hashes in its row. The same
    numbers and seed give the same rows and files.
    """
    import psycopg

    began = time.monotonic()
    if items < 1 or not 0 <= files <= items:
        raise UsageError(
            "a demo library has at least one item, and a file for no more than it has", on=f"{items}, {files}"
        )
    if home.exists() and any(home.iterdir()):
        raise UsageError("a demo library is only built in an empty folder", on=str(home), hint="name another folder")
    say = advance or (lambda _: None)
    (home / LIBRARY).mkdir(parents=True, exist_ok=True)
    with psycopg.connect(server_conninfo) as session:
        if session.execute("SELECT 1 FROM pg_tables WHERE schemaname = 'public'").fetchone():
            raise UsageError("a demo library is only built in an empty database", on=session.info.dbname)
        session.execute("SET search_path = public")
        session.execute(SCHEMA)
        say(f"{files} book files")
        builder = _Builder(home, items, files, seed)
        books = builder.books()
        say(f"{items} items")
        counts = {table: _copy(session, table, rows) for table, rows in builder.tables(books)}
        info = session.info
        env = ENV.format(host=info.host, port=info.port, name=info.dbname, user=info.user)
    write_around(home, seed)
    (home / ".env").touch(mode=0o600)
    (home / ".env").write_text(env)
    return Summary(home, items, files, sum(book.size for book in books), counts, time.monotonic() - began)


def _copy(session: psycopg.Connection[tuple[object, ...]], table: str, rows: tuple[str, Rows]) -> int:
    """Load rows by COPY and set the table's sequence behind its last id; returns how many there were."""
    columns, content = rows
    count = 0
    with session.cursor().copy(f"COPY {table} ({columns}) FROM STDIN".encode()) as copy:
        for row in content:
            copy.write_row(row)
            count += 1
    if columns.startswith("id,") and table != "sessions":
        session.execute(f"SELECT setval('{table}_id_seq', greatest({count}, 1), {count > 0})".encode())
    return count


class _Builder:
    """Invents the rows, table after table, in an order that the foreign keys allow."""

    def __init__(self, home: Path, items: int, files: int, seed: int) -> None:
        self._home = home
        self._items = items
        self._files = files
        self._seed = seed
        self._chance = words.luck(f"alexandria {seed}")
        self._authors = [words.person(self._chance) for _ in range(max(1, items // 3))]
        self._titles = [words.title(self._chance) for _ in range(items)]

    def books(self) -> list[BookFile]:
        root = self._home / LIBRARY
        return [
            write_book(root, n, self._authors[n % len(self._authors)], self._titles[n], self._shelf(n), self._seed)
            for n in range(self._files)
        ]

    def _shelf(self, number: int) -> str:
        return "Fiction" if number % 3 else f"Non-Fiction/{number % 10}00 - {words.SUBJECTS[number % 10]}"

    def tables(self, books: Sequence[BookFile]) -> Iterable[tuple[str, tuple[str, Rows]]]:
        """(table, (columns, rows)), everything a COPY needs."""
        yield "alembic_version", ("version_num", [("cd19c4aa26ac",)])
        yield "classifications", ("id,code,name,parent_code,system", self._classifications())
        yield "creators", ("id,name,sort_name,identifiers,bio", self._creators())
        yield (
            "users",
            (
                "id,username,email,password_hash,display_name,is_admin,can_download,created_at,last_login",
                [
                    (
                        n,
                        f"reader{n}",
                        f"reader{n}@library.example",
                        "$argon2id$v=19$demo",
                        f"Reader {n}",
                        n == 1,
                        True,
                        _NOW,
                        None,
                    )
                    for n in range(1, _USERS + 1)
                ],
            ),
        )
        yield (
            "items",
            (
                "id,uuid,title,sort_title,subtitle,classification_code,media_type,isbn13,identifiers,description,publisher,"
                "publish_date,language,series_name,series_index,tags,page_count,cover_path,date_added,date_modified",
                self._item_rows(books),
            ),
        )
        yield (
            "files",
            (
                "id,item_id,file_path,format,size_bytes,checksum_md5,checksum_sha256,date_added,metadata_extracted",
                [
                    (n, n, book.path, book.format, book.size, book.md5, book.sha256, _NOW, True)
                    for n, book in enumerate(books, 1)
                ],
            ),
        )
        yield (
            "item_creators",
            (
                "item_id,creator_id,role,position",
                [(n + 1, n % len(self._authors) + 1, "author", 0) for n in range(self._items)],
            ),
        )
        yield from self._account_tables()
        yield from self._reading_tables(books)

    def _account_tables(self) -> Iterable[tuple[str, tuple[str, Rows]]]:
        """What users have, and what the application notes of them and of itself."""
        chance, day = self._chance, timedelta(days=1)
        yield "collections", (
            "id,user_id,name,description,is_public,created_at,updated_at,is_system,color",
            [(n, n, "Want to read", words.sentence(chance), n % 2 == 0, _NOW, _NOW, False, "#aabbcc")
             for n in range(1, _USERS + 1)],
        )  # fmt: skip
        yield (
            "collection_items",
            (
                "collection_id,item_id,added_at,notes",
                [(n % _USERS + 1, n + 1, _NOW, words.note(chance)) for n in range(0, self._items, 7)],
            ),
        )
        yield "sessions", (
            "id,user_id,ip_address,user_agent,created_at,last_accessed,expires_at",
            [(f"{chance.getrandbits(256):064x}", n, "192.0.2.1", "Demo/1.0", _NOW, _NOW, _NOW + day * 7)
             for n in range(1, _USERS + 1)],
        )  # fmt: skip
        yield "audit_logs", (
            "id,user_id,event_type,event_category,details,created_at",
            [(n, n % _USERS + 1, "login", "auth", json.dumps({"b": n, "a": None}), _NOW + timedelta(seconds=n))
             for n in range(1, 201)],
        )  # fmt: skip
        yield "system_settings", (
            "key,value,value_type,description,updated_at",
            [(COUNTER_KEY, "0", "int", "what the demo's writer has done", _NOW),
             ("library.name", "Alexandria – “demo”", "str", None, _NOW)],
        )  # fmt: skip

    def _reading_tables(self, books: Sequence[BookFile]) -> Iterable[tuple[str, tuple[str, Rows]]]:
        """How far users have read, and what else is known of the files."""
        chance = self._chance
        yield "reading_progress", (
            "id,item_id,file_id,progress,location,started_at,last_read_at,user_id,audio_position_seconds,preferred_mode",
            [(n + 1, n + 1, n + 1, round(chance.random(), 4), "epubcfi(/6/4)", _NOW, _NOW, n % _USERS + 1,
              chance.random() * 1e4, "text") for n in range(len(books))],
        )  # fmt: skip
        yield (
            "user_progress",
            (
                "user_id,item_id,file_id,progress_percent,position,last_accessed,completed",
                [(n % _USERS + 1, n + 1, n + 1, 12.5, "", _NOW, False) for n in range(0, len(books), 2)],
            ),
        )
        yield "source_files", (
            "id,source_path,filename,format,size_bytes,checksum_md5,status,migrated_file_id,extracted_metadata,scanned_at",
            [(n, f"/import/{book.path}", book.path.rpartition("/")[2], book.format, book.size, book.md5, "migrated", n,
              json.dumps({"title": self._titles[n - 1]}), _NOW) for n, book in enumerate(books, 1)],
        )  # fmt: skip
        yield (
            "edit_requests",
            (
                "id,item_id,request_type,request_data,status,created_at",
                [
                    (n, n, "title", json.dumps({"title": "x"}), "pending", _NOW)
                    for n in range(1, min(11, self._items + 1))
                ],
            ),
        )
        yield (
            "tts_cache",
            (
                "id,item_id,chapter_number,voice_id,file_path,duration_seconds,file_size_bytes,generated_at",
                [(n + 1, 1, n, "alto", f"tts-cache/1/{n}.mp3", 61.25 + n, 3000, _NOW) for n in range(3)],
            ),
        )

    def _classifications(self) -> Rows:
        for n in range(10):
            yield (n + 1, f"{n}00", words.SUBJECTS[n], None, "ddc")
        for n in range(100):
            yield (n + 11, f"{n // 10}{n % 10}0.{n % 10}", f"{words.SUBJECTS[n % 30]} {n}", f"{n // 10}00", "ddc")

    def _creators(self) -> Rows:
        for n, name in enumerate(self._authors, 1):
            first, _, last = name.rpartition(" ")
            bio = words.paragraph(self._chance, 4) if n % 3 else None
            yield (n, name, f"{last}, {first}", json.dumps({"viaf": n, "é": [1, None]}), bio)

    def _item_rows(self, books: Sequence[BookFile]) -> Rows:
        chance = self._chance
        for n, title in enumerate(self._titles):
            added = _NOW - timedelta(seconds=chance.randrange(10**8))
            series = f"{chance.choice(words.NOUNS)} Saga" if n % 5 == 0 else None
            tags = [chance.choice(words.SUBJECTS), 'a,b "quoted"', ""] if n % 4 == 0 else None
            cover = f"{books[n].path.rpartition('/')[0]}/cover.jpg" if n < len(books) and n % 10 == 0 else None
            yield (
                *(n + 1, uuid.UUID(int=chance.getrandbits(128), version=4), title, words.normalized(title)),
                *(None, f"{n % 10}00", "book", f"978{n:010d}", json.dumps({"oclc": chance.randrange(10**9)})),
                *(words.paragraph(chance, 12) if n % 20 else "", chance.choice(words.HOUSES)),
                *(datetime(1900 + chance.randrange(125), 1 + n % 12, 1), chance.choice(words.LANGUAGES)),
                *(series, n % 20 + 0.5 if series else None, tags, chance.randrange(40, 1200), cover, added, added),
            )
