"""Restores from the raw copy or from the export, and their undo from every point."""

from __future__ import annotations

import copy
import os
import shutil
import stat
import struct
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from scriptorium.errors import RestoreFailed
from scriptorium.fs.access_lists import ACCESS, DEFAULT
from scriptorium.fs.places import Places
from scriptorium.model import Part, Staged
from scriptorium.quiesce.pause import snapshot
from scriptorium.sources import RestoreOptions
from scriptorium.sources.base import Incoming
from scriptorium.sources.kuzu import reader
from scriptorium.sources.kuzu.source import KuzuSource

NOW = datetime(2026, 1, 1, tzinfo=UTC)
_NOBODY = 0xFFFFFFFF
ROW = "CREATE (:T {{id: {0}, s: 'v{0}'}})"
SCHEMA = "CREATE NODE TABLE T(id INT64, s STRING, PRIMARY KEY(id))"


def part_of(staged: Staged) -> Part:
    return Part(
        staged.source, staged.kind, staged.path, 0, 0, NOW, NOW, staged.method,
        staged.engine_version, staged.tables, staged.export,
    )  # fmt: skip


def unpack(staged: Staged, incoming: Incoming) -> None:
    """Write every member of the part's trees where the restore wants it."""
    for tree in staged.trees:
        root = Path(tree.root)
        files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
        for path in files:
            inside = path.relative_to(root).as_posix()
            target = incoming.receive(tree.at if inside == "." else f"{tree.at}/{inside}")
            if target is not None:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target)


class Bench:
    """A living database of three rows, a backup of it, and then a fourth row and a leftover WAL."""

    def __init__(self, lab: ModuleType, folder: Path, engine: Path | None = None) -> None:
        self.lab, self.folder, self.engine = lab, folder, engine
        (folder / "live").mkdir()
        self.database = folder / "live" / "app.db"
        self.old = str(engine) if engine else None
        lab.script(self.old, self.database, SCHEMA, *(ROW.format(number) for number in range(3)))
        self.source = KuzuSource(path=self.database, engine=engine)
        (folder / "stage").mkdir()
        self.staged = snapshot(self.source, folder / "stage", ())
        lab.script(self.old, self.database, ROW.format(3))

    def elsewhere(self, folder: Path) -> Bench:
        """A bench of its own with the same contents; the backup is shared, and only read."""
        twin = copy.copy(self)
        shutil.copytree(self.folder / "live", folder / "live")
        twin.folder, twin.database = folder, folder / "live" / "app.db"
        twin.source = KuzuSource(path=twin.database, engine=self.engine)
        return twin

    def incoming(self, *, rebuild: bool = False, **more: Any) -> Any:
        options = RestoreOptions.chosen({"rebuild": rebuild})
        return self.source.incoming(part_of(self.staged), "0123456789ab", options=options, **more)

    def rows(self, database: Path | None = None) -> int:
        found = reader.read(database or self.database, engine=self.engine)
        return found.tables["T"].rows

    def names(self) -> set[str]:
        return {path.name for path in (self.folder / "live").iterdir()}

    def bring(self, **more: Any) -> Any:
        incoming = self.incoming(**more)
        incoming.prepare()
        unpack(self.staged, incoming)
        return incoming


@pytest.fixture(scope="module")
def first_bench(lab: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(lab, tmp_path_factory.mktemp("bench"))


@pytest.fixture
def bench(first_bench: Bench, tmp_path: Path) -> Bench:
    return first_bench.elsewhere(tmp_path)


@pytest.mark.parametrize("rebuild", [False, True])
def test_in_place_with_a_previous_wal(bench: Bench, rebuild: bool) -> None:
    living = bench.database.read_bytes()
    for ending in (".wal", ".shadow"):
        bench.database.with_name(f"app.db{ending}").write_bytes(b"of another state")
    bench.database.chmod(0o640)
    incoming = bench.bring(rebuild=rebuild)
    raw = (incoming.load(), incoming.receive("kuzu/app.db"))
    assert raw[0] == bench.staged.tables
    assert bench.database.read_bytes() == living, "nothing living is touched before the switch"
    incoming.switch()
    assert bench.names() == {"app.db"}, "what we put aside is not in the folder that the application packs"
    assert (bench.folder / ".scriptorium-restore-0123456789ab-kuzu" / "former").is_dir()
    incoming.finish()
    assert bench.names() == {"app.db"}
    assert bench.database.stat().st_mode & 0o777 == (0o640 if rebuild else 0o644)
    assert bench.rows() == 3


def test_reading_what_was_restored_does_not_change_it(bench: Bench) -> None:
    incoming = bench.bring()
    new = incoming.receive("kuzu/app.db")
    before = (new.read_bytes(), new.stat().st_mtime_ns, sorted(new.parent.iterdir()))
    incoming.load()
    assert (new.read_bytes(), new.stat().st_mtime_ns, sorted(new.parent.iterdir())) == before


@pytest.mark.parametrize("rebuild", [False, True])
def test_into_a_folder_as_the_archive_has_it(bench: Bench, rebuild: bool) -> None:
    into = bench.folder / "elsewhere"
    incoming = bench.bring(into=into, rebuild=rebuild)
    assert incoming.load() == bench.staged.tables
    incoming.switch()
    incoming.finish()
    assert [path.relative_to(into).as_posix() for path in into.rglob("*")] == ["kuzu", "kuzu/app.db"]
    assert (bench.rows(into / "kuzu" / "app.db"), bench.rows()) == (3, 4)


def test_each_member_belongs_to_one_way_back(bench: Bench) -> None:
    raw, rebuilt = bench.incoming(), bench.incoming(rebuild=True)
    for member in ("exports/kuzu/T.parquet", "exports/kuzu2/T.parquet", "kuzu/app.db2", "data/x"):
        assert raw.receive(member) is None
    assert rebuilt.receive("kuzu/app.db") is None and rebuilt.receive("exports/kuzu2/T.parquet") is None
    assert rebuilt.receive("exports/kuzu/T.parquet").name == "T.parquet"


def test_damage_is_found_before_the_switch(bench: Bench) -> None:
    incoming = bench.bring()
    target = incoming.receive("kuzu/app.db")
    target.write_bytes(target.read_bytes()[:9000])
    with pytest.raises(RestoreFailed, match="cannot be read"):
        incoming.load()
    incoming.undo()
    assert (bench.names(), bench.rows()) == ({"app.db"}, 4)


def test_a_rebuild_needs_an_export(bench: Bench) -> None:
    part = part_of(bench.staged)
    bare = Part(part.source, part.kind, part.path, 0, 0, NOW, NOW, "x", tables=part.tables)
    with pytest.raises(RestoreFailed, match="no logical export"):
        bench.source.incoming(bare, "0123456789ab", options=RestoreOptions.chosen({"rebuild": True}))


@pytest.mark.parametrize("renames", range(5))
@pytest.mark.parametrize("again", ["undo", "prepare", "switch"])
def test_a_crash_at_every_rename_is_undone_or_carried_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, renames: int, again: str
) -> None:
    """The database, its WAL and its shadow are moved away, the new one is moved in: four renames."""
    previous = {
        "app.db": bench.database.read_bytes(),
        "app.db.wal": b"previous WAL",
        "app.db.shadow": b"previous shadow",
    }
    for name, content in previous.items():
        (bench.database.parent / name).write_bytes(content)
    incoming = bench.bring()
    real, left = Places.rename, renames

    class Crash(BaseException): ...

    def rename(self: Places, source: Path, target: Path) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Crash
        real(self, source, target)

    with monkeypatch.context() as patch, pytest.raises(Crash) if renames < 4 else pytest.MonkeyPatch.context():
        patch.setattr(Places, "rename", rename)
        incoming.switch()
    after = bench.incoming()  # a new object, as after a crash
    if again == "switch":
        if renames < 4:
            after.switch()
        after.finish()
        assert bench.names() == {"app.db"}
        assert bench.rows() == 3
        return
    if renames == 4:
        (bench.database.parent / "app.db.wal").write_bytes(b"of the new database, opened since")
    getattr(after, again)()
    if again == "prepare":
        assert {path.name for path in after._staging.path.iterdir()} == {"incoming", "former", "scriptorium.json"}
        after.undo()
    assert {name: (bench.database.parent / name).read_bytes() for name in bench.names()} == previous
    after.undo()  # once more changes nothing
    assert bench.names() == set(previous)


def test_undo_without_a_switch_leaves_everything(bench: Bench) -> None:
    before = bench.database.read_bytes()
    bench.incoming().undo()
    incoming = bench.bring()
    incoming.undo()
    assert (bench.names(), bench.database.read_bytes()) == ({"app.db"}, before)


def test_undo_where_nothing_was_before(bench: Bench) -> None:
    bench.database.unlink()
    incoming = bench.bring()
    incoming.switch()
    assert bench.names() == {"app.db"}, "what we put aside is not in the folder that the application packs"
    assert (bench.folder / ".scriptorium-restore-0123456789ab-kuzu" / "former").is_dir()
    incoming.undo()
    assert bench.names() == set()


def test_finish_can_be_repeated_and_ends_the_possibility_of_undo(bench: Bench) -> None:
    incoming = bench.bring()
    incoming.switch()
    incoming.finish()
    incoming.finish()
    incoming.undo()
    assert bench.rows() == 3


def test_two_databases_of_one_folder_do_not_meet(bench: Bench, lab: ModuleType) -> None:
    other = KuzuSource(path=bench.database.with_name("other.db"), name="other")
    lab.script(None, other.path, SCHEMA)
    incoming = bench.bring()
    other.incoming(part_of(bench.staged), "0123456789ab").prepare()
    assert incoming.load() == bench.staged.tables


def test_the_folder_layout_is_restored(lab: ModuleType, tmp_path: Path, old_kuzu: Path) -> None:
    bench = Bench(lab, tmp_path, old_kuzu)
    for rebuild in (False, True):
        incoming = bench.bring(rebuild=rebuild)
        assert incoming.load() == bench.staged.tables
        incoming.switch()
        assert bench.rows() == 3
        incoming.undo()
        assert bench.rows() == 4
    incoming = bench.bring()
    incoming.switch()
    incoming.finish()
    assert (bench.rows(), bench.names()) == (3, {"app.db"})


def _shared_with_a_user(path: Path) -> bytes:
    """The owner and user 1005 read and write, the owning group may do nothing: the mode shows 0660."""
    entries = ((1, 6, _NOBODY), (2, 6, 1005), (4, 0, _NOBODY), (16, 6, _NOBODY), (32, 0, _NOBODY))
    listed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *one) for one in entries)
    try:
        os.setxattr(path, ACCESS, listed)
    except OSError:
        pytest.skip("no access lists on this filesystem")
    return listed


def _list_of(path: Path) -> tuple[int, bytes]:
    return stat.S_IMODE(path.stat().st_mode), os.getxattr(path, ACCESS)


def test_access_lists_and_attributes_of_a_database_are_kept_or_named(bench: Bench, tmp_path: Path) -> None:
    listed = _shared_with_a_user(bench.database)
    os.setxattr(bench.database, "user.note", b"mine")
    named = True
    try:
        os.setxattr(bench.database, "trusted.odd", b"1")
    except OSError:
        named = False
    (tmp_path / "again").mkdir()
    staged = snapshot(bench.source, tmp_path / "again", ())
    raw = Path(staged.trees[0].root)
    assert _list_of(raw) == (0o660, listed) and os.getxattr(raw, "user.note") == b"mine"
    message = f"{bench.database}: the attribute trusted.odd is not kept"
    assert (message in staged.warnings) is named


def test_a_workspace_with_a_default_list_opens_no_database(bench: Bench, tmp_path: Path) -> None:
    """What the copy inherits from the folder that it is made in is not the database's own."""
    stage = tmp_path / "again"
    stage.mkdir()
    entries = ((1, 7, _NOBODY), (2, 7, 1005), (4, 5, _NOBODY), (16, 7, _NOBODY), (32, 5, _NOBODY))
    listed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *one) for one in entries)
    try:
        os.setxattr(stage, DEFAULT, listed)
    except OSError:
        pytest.skip("no access lists on this filesystem")
    bench.database.chmod(0o640)
    staged = snapshot(bench.source, stage, ())
    raw = Path(staged.trees[0].root)
    assert stat.S_IMODE(raw.stat().st_mode) == 0o640 and ACCESS not in os.listxattr(raw)


def test_a_rebuilt_database_has_the_access_list_of_the_previous_one(bench: Bench) -> None:
    listed = _shared_with_a_user(bench.database)
    incoming = bench.bring(rebuild=True)
    incoming.load()
    incoming.switch()
    assert _list_of(bench.database) == (0o660, listed)
    incoming.finish()
