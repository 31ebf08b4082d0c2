"""The rows of an invented library, table by table. The same seed gives the same rows, on every machine."""

from __future__ import annotations

import json
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta

from scriptorium.demo import words

Row = dict[str, object]
COUNTER_KEY = "demo-writer"
_DAY = datetime(2024, 2, 29, 23, 30)  # the library's "today"; naive, as the application writes its times
_ROLES = ("authored", "authored", "authored", "edited", "translated", "illustrated", "narrated")
_READERS = ("Alva", "Søren", "みずき", "Renée", "O'Fennelly")


class Rows:
    """Rows of every table that has rows, as ``tables()`` returns them; relationships have ``start`` and ``end``."""

    def __init__(self, books: int, covers: Sequence[str], seed: int) -> None:
        """``covers``: paths below ``data/covers``, given to the first books."""
        self._chance = words.luck(f"rows {seed}")
        self._tables: dict[str, list[Row]] = defaultdict(list)
        self._covers = covers
        self._readers = [self._reader(number) for number in range(len(_READERS))]
        self._places = [self._place(name) for name in ("Living room", "Cellar, shelf 3", "Lent out", "")]
        self._subjects = self._categories()
        self._houses = [self._named("Publisher", house, country="", website=None) for house in words.HOUSES]
        self._series = [
            self._named("Series", f"Chronicles of the {words.title(self._chance)}", description="")
            for _ in range(max(1, books // 20))
        ]
        self._people = [self._person() for _ in range(max(3, books * 3 // 5))]
        for number in range(books):
            self._book(number)
        self._settings()

    def tables(self) -> Mapping[str, list[Row]]:
        return self._tables

    # --- small things -------------------------------------------------------------------------------------------------

    def _id(self) -> str:
        return str(uuid.UUID(int=self._chance.getrandbits(128), version=4))

    def _time(self) -> datetime:
        return _DAY - timedelta(microseconds=self._chance.randrange(3 * 365 * 86_400 * 1_000_000))

    def _node(self, table: str, **values: object) -> str:
        written = self._time()
        key = str(values.setdefault("id", self._id()))
        self._tables[table].append({"created_at": written, "updated_at": written, **values})
        return key

    def _named(self, table: str, name: str, **values: object) -> str:
        return self._node(table, name=name, normalized_name=words.normalized(name), **values)

    def _link(self, table: str, start: str, end: str, **values: object) -> None:
        self._tables[table].append({"start": start, "end": end, "created_at": self._time(), **values})

    # --- people, places, subjects -------------------------------------------------------------------------------------

    def _reader(self, number: int) -> str:
        chance, name = self._chance, _READERS[number]
        return self._node(
            "User",
            username=words.normalized(name).replace(" ", "") + str(number),
            email=f"reader{number}@library.example",
            password_hash="scrypt:32768:8:1$demo$" + f"{chance.getrandbits(512):0128x}",
            share_current_reading=chance.random() < 0.5,
            share_reading_activity=chance.random() < 0.5,
            share_library=chance.random() < 0.5,
            is_admin=number == 0,
            is_active=True,
            password_must_change=False,
            failed_login_attempts=0,
            last_login=self._time(),
            reading_streak_offset=-number,
            timezone=chance.choice(("UTC", "Europe/Oslo", "Asia/Tokyo")),
            display_name=name,
            bio=words.note(chance),
        )

    def _place(self, name: str) -> str:
        return self._node(
            "Location",
            user_id=self._readers[0],
            name=name,
            description=words.sentence(self._chance),
            location_type="room",
            is_default=name == "Living room",
        )

    def _categories(self) -> list[str]:
        found = []
        for subject in words.SUBJECTS:
            top = self._named("Category", subject, level=0, color="#5a3e2b", aliases="[]", description=None)
            found.append(top)
            for word in self._chance.sample(words.ADJECTIVES, 2):
                name = f"{word} {subject}"
                child = self._named("Category", name, level=1, parent_id=top, aliases=json.dumps([name.upper()]))
                self._link("PARENT_CATEGORY", child, top)
                found.append(child)
        return found

    def _person(self) -> str:
        chance = self._chance
        name = words.person(chance)
        born = chance.randint(1850, 1995)
        return self._named(
            "Person",
            name,
            birth_year=born,
            death_year=born + chance.randint(30, 90) if born < 1930 else None,
            birth_date=f"{born}-02-28" if chance.random() < 0.5 else "",
            bio=words.paragraph(chance, 2) if chance.random() < 0.6 else None,
            alternate_names=json.dumps([name.upper()], ensure_ascii=False),
            official_links="{}",
        )

    # --- books --------------------------------------------------------------------------------------------------------

    def _book(self, number: int) -> None:
        chance = self._chance
        title = words.title(chance)
        isbn = f"979{chance.randrange(10**10):010d}"
        heard = chance.random() < 0.1
        book = self._node(
            "Book",
            title=title,
            normalized_title=words.normalized(title),
            subtitle=words.sentence(chance) if chance.random() < 0.3 else ("" if chance.random() < 0.5 else None),
            isbn13=isbn if chance.random() < 0.9 else None,
            isbn10=None,
            description=words.paragraph(chance, chance.randint(2, 6)),
            published_date=date(chance.randint(1900, 2023), chance.randint(1, 12), chance.randint(1, 28)),
            page_count=chance.randint(40, 1200),
            language=chance.choice(words.LANGUAGES),
            cover_url=f"/covers/{self._covers[number]}" if number < len(self._covers) else None,
            media_type="audiobook" if heard else "physical",
            average_rating=chance.choice((None, 1.7e-07, round(chance.uniform(1, 5), 2), 1 / 3)),
            rating_count=chance.randrange(10_000),
            custom_metadata=json.dumps({"shelf mark": f"{chance.choice('ABC')}-{number}", "note": title}),
            raw_categories=json.dumps(chance.sample(words.SUBJECTS, 2)),
            audio_length_minutes=chance.randint(60, 2000) if heard else None,
            audio_narrators=words.person(chance) if heard else None,
            quantity=1,
        )
        self._belongings(book)
        for reader in chance.sample(self._readers, chance.choice((1, 1, 1, 2, 3))):
            self._reading(reader, book)

    def _belongings(self, book: str) -> None:
        chance = self._chance
        for order, person in enumerate(chance.sample(self._people, chance.choice((1, 1, 1, 2, 3)))):
            role = "authored" if order == 0 else chance.choice(_ROLES)
            self._link("AUTHORED", person, book, role=role, order_index=order, contribution_type=role)
        for subject in chance.sample(self._subjects, chance.randint(1, 4)):
            self._link("CATEGORIZED_AS", book, subject)
        self._link("PUBLISHED_BY", book, chance.choice(self._houses), publication_date=None)
        if chance.random() < 0.2:
            volume = chance.randint(1, 12)
            self._link(
                "PART_OF_SERIES",
                book,
                chance.choice(self._series),
                volume_number=volume,
                volume_number_double=volume + chance.choice((0.0, 0.5)),
                series_order=volume,
            )
        self._link("STORED_AT", book, chance.choice(self._places), user_id=self._readers[0])
        if chance.random() < 0.05:
            self._tables["GlobalMetadata"].append(_metadata(book, {"provenance": words.sentence(chance)}))
            self._link("HAS_GLOBAL_METADATA", book, book)

    def _reading(self, reader: str, book: str) -> None:
        chance = self._chance
        begun = self._time()
        finished = begun + timedelta(days=chance.randint(1, 60)) if chance.random() < 0.7 else None
        self._link(
            "HAS_PERSONAL_METADATA",
            reader,
            book,
            personal_notes=words.note(chance),
            start_date=begun,
            finish_date=finished,
            personal_custom_fields=json.dumps({"mood": chance.choice(("calm", "élan", "«wild»")), "again": True}),
            updated_at=begun,
        )
        for step in range(chance.randint(0, 8)):
            log = self._node(
                "ReadingLog",
                user_id=reader,
                book_id=book,
                date=(begun + timedelta(days=step)).date(),
                pages_read=chance.randint(1, 90),
                minutes_read=chance.randint(5, 240),
                notes=words.note(chance) if chance.random() < 0.3 else "",
            )
            self._link("LOGGED", reader, log)
            self._link("FOR_BOOK", log, book)
        if chance.random() < 0.1:
            review = self._node("Review", user_id=reader, book_id=book, rating=chance.randint(1, 10) / 2)
            self._link("HAS_REVIEW", reader, review)
            self._link("REVIEW_FOR_BOOK", review, book)

    def _settings(self) -> None:
        """The small tables, and the counter of the writer. Some of them stay empty, as in a real installation."""
        for reader in self._readers:
            self._node("ReadingGoal", user_id=reader, year=2024, target_books=52, target_pages=None)
            library = self._node("Library", user_id=reader, name="Home", description="")
            for position, name in enumerate(("To read", "Read", 'The "good" shelf')):
                self._node("LibraryShelf", library_id=library, name=name, position=position)
        self._node("CustomFieldDefinition", name="mood", display_name="Mood", field_type="text", is_global=True)
        self._tables["GlobalMetadata"].append(_metadata(COUNTER_KEY, {}))


def _metadata(book: str, fields: Mapping[str, str]) -> Row:
    text = json.dumps(fields, ensure_ascii=False)
    return {"book_id": book, "global_custom_fields": text, "revision": 0, "created_at": _DAY, "updated_at": _DAY}
