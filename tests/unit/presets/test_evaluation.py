"""The rules of a Bibliotheca, checked on real backups: owners, names, covers; refused or reported."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import real_backup

from scriptorium.errors import SourceDamaged
from scriptorium.model import Check, Manifest
from scriptorium.operations.drill import drill
from scriptorium.requests import DrillRequest
from scriptorium.restore.proof import compare_checks
from scriptorium.words import BackupType

LACKING = "covers that a book names and the backup lacks"
UNNAMED = "covers that no book names"
OWNERLESS = "books without an owner"
NAMELESS = "contributors without a name"
Take = Callable[..., Manifest]


@pytest.fixture
def take(place: Any) -> Take:
    """Takes backups of the library, each an hour after the one before."""
    began, taken = datetime.now(UTC) - timedelta(days=1), []

    def take(type: BackupType = BackupType.FULL) -> Manifest:
        taken.append(type)
        return real_backup.take(place.settings, began + timedelta(hours=len(taken)), type=type)

    return take


def strict(place: Any) -> None:
    text = place.config.read_text()
    place.config.write_text(text.replace('home = "library"', 'home = "library"\nmissing_files = "error"'))


def name_covers(place: Any, *urls: str) -> None:
    """Books 1, 2, … name these covers, and the others none."""
    place.execute(
        "ALTER TABLE Book ADD cover_url STRING",
        *(f"MATCH (b:Book {{id: '{number}'}}) SET b.cover_url = '{url}'" for number, url in enumerate(urls, 1)),
    )


def found(checks: tuple[Check, ...]) -> dict[str, tuple[bool, int, tuple[str, ...]]]:
    return {check.name: (check.good, check.count, check.first) for check in checks}


def test_covers_that_are_all_gone_are_missing_as_one_is(place: Any, take: Take) -> None:
    name_covers(place, "/covers/a.jpg", "/covers/sub/b.jpg")
    shutil.rmtree(place.home / "data" / "covers")
    gone = (False, 2, ("data/covers/a.jpg", "data/covers/sub/b.jpg"))
    assert found(take().checks) == {NAMELESS: (True, 0, ()), LACKING: gone, UNNAMED: (True, 0, ())}
    proof = drill(place.settings, DrillRequest()).proof
    assert proof.proven and found(proof.checks)[LACKING] == gone
    strict(place)
    with pytest.raises(SourceDamaged, match=r"lacks: 2 \(data/covers/a\.jpg"):
        take()
    assert found(take(BackupType.DATABASE).checks).keys() == {NAMELESS}, "it holds no files by intention"


def test_a_check_that_was_not_made_has_nothing_to_be_worse_than() -> None:
    now = Check(LACKING, False, 2, ("a", "b"))
    assert compare_checks((), (now,)) == (), "an older backup is proven as before"
    (worse,) = compare_checks((Check(LACKING, False, 1, ("a",)),), (now,))
    assert worse.subject == str(now)


def test_owners_and_names_are_looked_at_and_are_no_missing_files(place: Any, take: Take) -> None:
    name_covers(place, "/covers/a.jpg")
    place.execute(
        "CREATE NODE TABLE User(id STRING, PRIMARY KEY(id))",
        "CREATE REL TABLE HAS_PERSONAL_METADATA(FROM User TO Book)",
        "CREATE (:User {id: 'reader'})",
        "MATCH (u:User), (b:Book) WHERE b.id <> '7' CREATE (u)-[:HAS_PERSONAL_METADATA]->(b)",
        "MATCH (p:Person) WHERE p.id = '2' SET p.name = ''",
        "MATCH (p:Person) WHERE p.id = '3' SET p.name = NULL",
        "CREATE (:Person {id: 'idle', name: ''})",  # contributed nothing
    )
    strict(place)
    assert found(take().checks) == {
        OWNERLESS: (False, 1, ("Title 7 (7)",)),
        NAMELESS: (False, 2, ("2 of Title 2", "3 of Title 3")),
        LACKING: (True, 0, ()),
        UNNAMED: (True, 1, ("data/covers/sub/b.jpg",)),
    }
    proof = drill(place.settings, DrillRequest()).proof
    assert proof.proven and found(proof.checks)[OWNERLESS] == (False, 1, ("Title 7 (7)",))


def test_covers_are_found_wherever_a_book_can_name_them(place: Any, take: Take) -> None:
    covers = place.home / "data" / "covers"
    (covers / "a b.jpg").write_bytes(b"its address is written with %20")
    (covers / "50%25.jpg").write_bytes(b"its name is")
    (covers / "link.jpg").symlink_to("sub/../again.jpg")
    (covers / "again.jpg").symlink_to("sub/b.jpg")
    (covers / "dangling.jpg").symlink_to("nothing.jpg")
    (covers / "round.jpg").symlink_to("round.jpg")
    (covers / "away.jpg").symlink_to(place.home.parent / "elsewhere.jpg")
    name_covers(
        place,
        *("/covers/a%20b.jpg", "/covers/50%25.jpg", "/uploads/notes.txt", "/static/covers/a.jpg?v=2", "link.jpg"),
        *(
            "/static/bookshelf.png",
            "//images.example/a.jpg",
            "https://images.example/a.jpg",
            "data:image/png;base64,AA",
        ),
        *("/covers/dangling.jpg", "/covers/round.jpg", "/covers/away.jpg", "/uploads/gone.txt"),
    )
    lacking = ("data/covers/away.jpg", "data/covers/dangling.jpg", "data/covers/round.jpg", "data/uploads/gone.txt")
    assert found(take().checks) == {
        NAMELESS: (True, 0, ()),
        LACKING: (False, 4, lacking),
        UNNAMED: (True, 2, ("data/covers/again.jpg", "data/covers/sub/b.jpg")),
    }


def test_portraits_of_persons_are_named_and_looked_for(place: Any, take: Take) -> None:
    name_covers(place, "/covers/a.jpg")
    place.execute(
        "ALTER TABLE Person ADD image_url STRING",
        "CREATE (:Person {id: 'p8', name: 'h', image_url: '/covers/sub/b.jpg'})",
        "CREATE (:Person {id: 'p9', name: 'i', image_url: '/covers/people/none.jpg'})",
    )
    checks = found(take().checks)
    assert checks["portraits that a person names and the backup lacks"] == (False, 1, ("data/covers/people/none.jpg",))
    assert checks[UNNAMED] == (True, 0, ()), "a portrait is no cover that nothing names"
    strict(place)
    with pytest.raises(SourceDamaged, match=r"people/none\.jpg"):
        take()


def test_books_without_an_owner_are_no_fault_where_the_application_gives_none(place: Any, take: Take) -> None:
    place.execute(
        "CREATE NODE TABLE User(id STRING, PRIMARY KEY(id))",
        "CREATE REL TABLE HAS_PERSONAL_METADATA(FROM User TO Book)",
        "CREATE (:User {id: 'reader'})",
    )
    assert found(take().checks)[OWNERLESS][0] is True, "not one book has an owner"
    place.execute(
        "ALTER TABLE Book ADD created_at TIMESTAMP",
        "MATCH (b:Book) SET b.created_at = timestamp('2024-01-01 00:00:00')",
        "MATCH (b:Book {id: '7'}) SET b.created_at = timestamp('2025-01-01 00:00:00')",
        "MATCH (u:User), (b:Book) WHERE b.id <> '7' CREATE (u)-[:HAS_PERSONAL_METADATA]->(b)",
    )
    assert found(take().checks)[OWNERLESS][:2] == (True, 1), "the newest book has none"
    place.execute("MATCH (b:Book {id: '7'}) SET b.created_at = timestamp('2020-01-01 00:00:00')")
    assert found(take().checks)[OWNERLESS][:2] == (False, 1), "the newest has one, an older book lost its own"
