"""What is linked, and what is sent although rsync would see no change."""

from __future__ import annotations

from dataclasses import replace

from scriptorium.model import FileEntry
from scriptorium.stores.trees.record import Line, Place
from scriptorium.stores.trees.rsync.transfer import Earlier, relative

LINE = Line(FileEntry("data/a", "file", 3, 0o644, 5, "hash"), 0, 0, 0, "root", "root")


def changed(**fields: object) -> Line:
    return replace(LINE, entry=replace(LINE.entry, **fields))  # type: ignore[arg-type]


def test_earlier() -> None:
    earlier = Earlier.of(iter([LINE]))
    assert earlier.has(LINE) and not earlier.deceives(LINE)
    assert not earlier.has(changed(path="data/b")) and not earlier.deceives(changed(path="data/b"))
    other = changed(sha256="other")
    assert not earlier.has(other) and earlier.deceives(other)
    assert not earlier.deceives(changed(sha256="other", mtime_ns=5 + 10**9)), "rsync sees that"
    assert earlier.deceives(changed(sha256="other", mtime_ns=6)), "it compares whole seconds"
    assert not earlier.has(replace(LINE, uid=1)) and not earlier.has(changed(mode=0o600))


def test_paths_in_a_tree() -> None:
    assert relative(Place("data", "/srv/data", "/srv/data", False), "data/sub/a") == "sub/a"
    assert relative(Place("data", "/srv/data", "/srv/data", False), "data") == ""
    assert relative(Place("", "/srv", "/srv", False), "sub/a") == "sub/a"
    assert relative(Place("db.dump", "/stage/x", "/x", True), "db.dump") == ""
