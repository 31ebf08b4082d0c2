"""The targets that restic gets are the members that our walk found, whatever their names are."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from prepared_backup import draft_of

from scriptorium.members.walk import walk
from scriptorium.model import Staged, Tree
from scriptorium.stores.trees.package import TreePackage, TreePackaging
from scriptorium.stores.trees.restic.targets import Targets, targets

AT = datetime(2026, 1, 2, tzinfo=UTC)


def package(folder: Path, *trees: Tree) -> TreePackage:
    work = folder / "work"
    (work / "spool").mkdir(parents=True)
    parts = [Staged(f"p{n}", "files", tree.at, "read", AT, AT, (tree,)) for n, tree in enumerate(trees)]
    with TreePackaging().packager(work, "full_1") as packager:
        manifest = walk(draft_of(AT), parts, [packager], spool=work / "spool")
    return packager.package(manifest)


def make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, encoding="utf-8", errors="surrogateescape")
    return folder


def test_a_whole_tree_is_one_target(tmp_path: Path) -> None:
    data = make(tmp_path / "data", "a", "sub/b")
    assert targets(package(tmp_path, Tree(str(data), "data"))) == Targets((os.fsencode(data),), ())


def test_what_the_walk_left_out_is_excluded_at_its_top(tmp_path: Path) -> None:
    data = make(tmp_path / "data", "a", "b.tmp", "sub/c", "sub/d.tmp", "cache/e", "cache/f")
    os.mkfifo(data / "pipe")
    found = targets(package(tmp_path, Tree(str(data), "data", exclude=("*.tmp", "cache"))))
    assert found.paths == (os.fsencode(data),)
    assert sorted(os.fsdecode(path.removeprefix(os.fsencode(data))) for path in found.excluded) == [
        "/b.tmp",
        "/cache",
        "/pipe",
        "/sub/d.tmp",
    ]


def test_what_another_tree_brings_is_not_excluded(tmp_path: Path) -> None:
    data = make(tmp_path / "home", "config.py", "data/a", "data/b", "other")
    trees = (Tree(str(data), "", include=("config.py",)), Tree(str(data / "data"), "data"))
    found = targets(package(tmp_path, *trees))
    assert found.paths == (os.fsencode(data),)
    assert found.excluded == (os.fsencode(data / "other"),)


def test_a_single_file_is_a_target(tmp_path: Path) -> None:
    data = make(tmp_path / "home", "config.py", "other")
    one = package(tmp_path, Tree(str(data / "config.py"), "config.py"))
    assert targets(one) == Targets((os.fsencode(data / "config.py"),), ())
    (place,) = one.places
    assert place.single and place.in_tool("config.py") == str(data / "config.py")


def test_staged_parts_are_called_the_same_in_every_run(tmp_path: Path) -> None:
    data = make(tmp_path / "work" / "source-db", "dump")
    one = package(tmp_path, Tree(str(data), "db"))
    assert one.places[0].in_tool("db/dump") == "/source-db/dump"
    assert targets(one).listed(one.folder) == b"source-db\0"


def test_patterns_mean_themselves(tmp_path: Path) -> None:
    names = (b"a*[b]?", b"$HOME", b"back\\slash", b"end ", b"two\nlines", b"\xff", "nbsp\u00a0".encode())
    found = Targets((), tuple(b"/x/" + name for name in names))
    assert found.patterns() == b"/x/a\\*\\[b]\\?\n/x/$$HOME\n/x/back\\\\slash\n/x/\xff\n"
    assert found.odd_patterns() == ["/x/end ", "/x/two\nlines", "/x/nbsp\u00a0"]


def test_where_little_of_much_is_taken_the_files_are_named(tmp_path: Path) -> None:
    data = make(tmp_path / "data", "keep/a", *(f"other/{number}" for number in range(3)))
    for number in range(1_001):
        (data / f"{number}.txt").touch()
    found = targets(package(tmp_path, Tree(str(data), "data", include=("keep",))))
    assert found == Targets((os.fsencode(data / "keep" / "a"),), ())
