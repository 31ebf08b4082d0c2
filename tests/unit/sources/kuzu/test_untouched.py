"""The copied bytes are archived, with the WAL; reading changes nothing; too little memory is no damage."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import kuzu_long_texts
import pytest
import real_backup

from scriptorium.catalog import Catalog
from scriptorium.errors import SourceDamaged
from scriptorium.fs.places import Places
from scriptorium.manifest import new_id
from scriptorium.model import NOT_COMPARABLE, Manifest, Proof, Staged
from scriptorium.operations import drill as drill_operation
from scriptorium.operations.prune import carry_out
from scriptorium.operations.prune_plan import plan_cleanup
from scriptorium.quiesce.pause import snapshot
from scriptorium.requests import DrillRequest
from scriptorium.restore import Restored, Supply, restore_in_place, restore_into, undo
from scriptorium.retention import Policy
from scriptorium.settings import Settings, load
from scriptorium.sources.kuzu import child, reader
from scriptorium.sources.kuzu.source import KuzuSource
from scriptorium.words import Status

NOW = datetime(2026, 3, 1, 2, tzinfo=UTC)
BOOKS = 6_000


@pytest.fixture(scope="module")
def texts() -> Iterator[Path]:
    """A database that was left with a WAL which a small buffer pool cannot replay."""
    folder = Path(tempfile.mkdtemp())
    kuzu_long_texts.make(folder / "graph.db")
    yield folder
    shutil.rmtree(folder)


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}


def take(database: Path, stage: Path, share: float = 0.5, engine: Path | None = None) -> Staged:
    stage.mkdir()
    return snapshot(KuzuSource(path=database, memory_share=share, engine=engine), stage, ())


class Library:
    """A library of that database alone; ``share``: of the memory, for its reader."""

    def __init__(self, folder: Path, texts: Path) -> None:
        self.folder, self.database = folder, folder / "home" / "graph.db"
        shutil.copytree(texts, folder / "home")
        self.config()

    def config(self, *, share: float = 0.5, engine: Path | None = None) -> Settings:
        more = f', engine = "{engine}"' if engine else ""
        (self.folder / "scriptorium.toml").write_text(
            '[libraries.lib]\nsources = [{ name = "graph", kind = "kuzu", path = "home/graph.db", '
            f'memory_share = {share:.10f}{more} }}]\n[stores.local]\nkind = "local"\npath = "store"\n'
        )
        return self.settings

    @property
    def settings(self) -> Settings:
        return load(self.folder / "scriptorium.toml", {})

    def take(self, days: int = 0) -> Manifest:
        return real_backup.take(self.settings, NOW + timedelta(days=days))

    def drill(self) -> Proof:
        return drill_operation.drill(self.settings, DrillRequest()).proof

    def supply(self, manifest: Manifest) -> Supply:
        assert manifest.archive is not None
        return Supply(self.settings.store("local"), f"lib/{manifest.archive.name}", manifest)

    def restore(self, manifest: Manifest, target: Path) -> Restored:
        return restore_into(self.supply(manifest), target, new_id())

    def status(self) -> Status:
        return Catalog(self.settings).backups()[0].status


@pytest.fixture
def library(tmp_path: Path, texts: Path) -> Library:
    return Library(tmp_path, texts)


def engine_that(folder: Path, does: str) -> Path:
    """An engine whose import does something to the reader."""
    (folder / "kuzu").mkdir(parents=True)
    (folder / "kuzu" / "__init__.py").write_text(does)
    (folder / "kuzu-0.11.3.dist-info").mkdir()
    (folder / "kuzu-0.11.3.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: kuzu\nVersion: 0.11.3\n")
    return folder


def engine_whose_answer(folder: Path, does: str) -> Path:
    """The engine, which does something when it is asked a question with ``now`` in it."""
    return engine_that(
        folder,
        "import os, sys\nsys.path.remove(os.path.dirname(os.path.dirname(__file__)))\ndel sys.modules['kuzu']\n"
        "import kuzu\nsys.modules['kuzu'] = kuzu\nreal = kuzu.Connection.execute\n"
        "def execute(self, query, *more):\n"
        f"    if 'now' in query: {does}\n"
        "    return real(self, query, *more)\n"
        "kuzu.Connection.execute = execute\n",
    )


def test_what_is_archived_is_what_was_copied(library: Library, tmp_path: Path) -> None:
    living = hashes(library.database.parent)
    manifest = library.take()
    entries = {entry.path: entry.sha256 for entry in manifest.files.entries or ()}
    assert entries["graph/graph.db"] == living["graph.db"]
    assert entries["graph/graph.db.wal"] == living["graph.db.wal"]
    assert manifest.parts[0].missing_fingerprints == {} and (manifest.parts[0].tables or {})["Book"].rows == BOOKS
    assert hashes(library.database.parent) == living
    restored = library.restore(manifest, tmp_path / "out")
    assert restored.tables == manifest.parts[0].tables and restored.warnings == ()
    assert hashes(tmp_path / "out" / "graph") == living
    assert kuzu_long_texts.lengths(tmp_path / "out" / "graph" / "graph.db") == kuzu_long_texts.expected()
    proof = library.drill()
    assert proof.proven and proof.rows == BOOKS and library.status() is Status.PROVEN


def test_too_little_memory_is_no_damage_and_keeps_every_text(library: Library, tmp_path: Path) -> None:
    library.config(share=kuzu_long_texts.SCARCE)
    living = hashes(library.database.parent)
    manifest = library.take()
    (part,) = manifest.parts
    assert (
        part.tables == {}
        and "64.0 MiB" in part.missing_fingerprints[""]
        and "too little memory" in part.missing_fingerprints[""]
    )
    assert any("too little memory" in warning for warning in manifest.warnings)
    proof = library.drill()
    assert proof.verdict == NOT_COMPARABLE and any("too little memory" in line for line in proof.uncompared)
    assert library.status() is Status.VERIFIED and Catalog(library.settings).backups()[0].unrecorded == ("graph",)
    restored = library.restore(manifest, tmp_path / "out")
    assert restored.tables == {} and "not compared" in restored.warnings[0]
    assert hashes(tmp_path / "out" / "graph") == living
    assert kuzu_long_texts.lengths(tmp_path / "out" / "graph" / "graph.db") == kuzu_long_texts.expected()


@pytest.mark.parametrize("trouble", ["little memory", "killed", "no memory for anything", "hangs"])
def test_a_drill_that_cannot_compare_leaves_the_status_of_the_backup(
    library: Library, tmp_path: Path, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = library.take()
    assert library.drill().proven
    if trouble == "little memory":
        library.config(share=kuzu_long_texts.SCARCE)
    elif trouble == "hangs":
        monkeypatch.setattr(child, "SECONDS_AT_LEAST", -20.0)
        library.config(engine=engine_that(tmp_path / "engine", "import time\ntime.sleep(100)\n"))
    else:
        does = (
            "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
            if trouble == "killed"
            else "raise MemoryError\n"
        )
        library.config(engine=engine_that(tmp_path / "engine", does))
    proof = library.drill()
    assert proof.verdict == NOT_COMPARABLE and proof.uncompared and not proof.differences
    assert library.status() is Status.PROVEN, "the proof of an earlier drill is still valid"
    second = library.take(days=1)
    assert "" in second.parts[0].missing_fingerprints
    decisions = plan_cleanup(library.settings, "lib", Policy(last=2), now=NOW + timedelta(days=2))
    assert all(decision.keep for decision in decisions) and carry_out(library.settings, "lib", decisions) == ()
    library.config()
    assert {backup.id for backup in Catalog(library.settings).backups()} == {first.id, second.id}
    assert library.drill().verdict == NOT_COMPARABLE, "nothing was recorded to compare with"


def test_a_reader_that_crashes_with_memory_enough_is_still_a_verdict(library: Library, tmp_path: Path) -> None:
    library.config(engine=engine_that(tmp_path / "engine", "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"))
    with pytest.raises(SourceDamaged, match="SIGSEGV"):
        library.take()


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n", "the kernel ended the reader"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n", "ended by SIGTERM"),
        ("raise MemoryError\n", "too little memory"),
        ("raise ImportError('x.so: failed to map segment from shared object')\n", "too little memory"),
        ("raise RuntimeError('IO exception: Cannot open file. Permission denied')\n", "Permission denied"),
        ("import sys\nsys.stderr.write('std::bad_alloc')\nimport os\nos.abort()\n", "bad_alloc"),
        ("import sys\nsys.exit('a fault of ours')\n", "a fault of ours"),
    ],
)
def test_a_reader_that_cannot_work_is_distinguished_from_damage(
    texts: Path, tmp_path: Path, does: str, reason: str
) -> None:
    staged = take(texts / "graph.db", tmp_path / "stage", engine=engine_that(tmp_path / "engine", does))
    assert reason in staged.missing_fingerprints[""] and staged.tables == {}


def test_a_reader_that_is_killed_once_gets_a_second_try(texts: Path, tmp_path: Path) -> None:
    """A machine may have too little memory for a short time; without fingerprints no backup is proven."""
    once = (
        f"import os, signal, sys\nflag = {str(tmp_path / 'flag')!r}\n"
        "if not os.path.exists(flag):\n    open(flag, 'w').close()\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.path.remove(os.path.dirname(os.path.dirname(__file__)))\ndel sys.modules['kuzu']\n"
        "import kuzu\nsys.modules['kuzu'] = kuzu\n"
    )
    staged = take(texts / "graph.db", tmp_path / "stage", engine=engine_that(tmp_path / "engine", once))
    assert (tmp_path / "flag").exists()
    assert staged.missing_fingerprints == {} and (staged.tables or {})["Book"].rows == BOOKS


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        ("os.kill(os.getpid(), 9)", "the kernel ended the reader"),
        ("os.kill(os.getpid(), 15)", "ended by SIGTERM"),
        ("os.kill(os.getpid(), 11)", "damage"),
    ],
)
def test_a_reader_that_ends_after_the_tables_were_reported(tmp_path: Path, lab: Any, does: str, reason: str) -> None:
    """During the checks of the library: a kill is no verdict, a crash is one."""
    lab.script(None, tmp_path / "g.db", "CREATE NODE TABLE Plain(id INT64, PRIMARY KEY(id))")
    engine = engine_whose_answer(tmp_path / "engine", does)
    (tmp_path / "stage").mkdir()
    source = KuzuSource(path=tmp_path / "g.db", engine=engine, statements={"covers": "RETURN 'now'"})
    if reason == "damage":
        with pytest.raises(SourceDamaged, match="SIGSEGV"):
            snapshot(source, tmp_path / "stage", ())
    else:
        assert reason in snapshot(source, tmp_path / "stage", ()).missing_fingerprints[""]


def test_a_question_that_lacks_memory_is_named(tmp_path: Path, lab: Any) -> None:
    lab.script(None, tmp_path / "g.db", "CREATE NODE TABLE Plain(id INT64, PRIMARY KEY(id))")
    engine = engine_whose_answer(tmp_path / "engine", "raise RuntimeError('the buffer pool is full')")
    (tmp_path / "stage").mkdir()
    source = KuzuSource(path=tmp_path / "g.db", engine=engine, memory_share=1e-9, statements={"covers": "RETURN 'now'"})
    staged = snapshot(source, tmp_path / "stage", ())
    assert any("(covers)" in line and "too little memory" in line for line in staged.warnings)
    assert staged.missing_fingerprints == {} and set(staged.tables or {}) == {"Plain"}


def test_a_value_that_python_cannot_hold_is_no_damage(tmp_path: Path, lab: Any) -> None:
    lab.script(
        None,
        tmp_path / "g.db",
        "CREATE NODE TABLE Far(id INT64, s STRUCT(t TIMESTAMP), PRIMARY KEY(id))",
        "CREATE (:Far {id: 1, s: {t: timestamp('200000-01-01 00:00:00')}})",
        "CREATE NODE TABLE Plain(id INT64, PRIMARY KEY(id))",
    )
    staged = take(tmp_path / "g.db", tmp_path / "stage")
    assert set(staged.tables or {}) == {"Plain"} and "200000" in staged.missing_fingerprints["Far"]


def test_a_reader_that_crashes_where_memory_is_refused_is_no_verdict(texts: Path, tmp_path: Path) -> None:
    """Below ``ulimit -v`` the engine does not always see that it got no memory: it crashes."""
    code = (
        "import resource, sys; from pathlib import Path; from scriptorium.sources.kuzu import reader as kuzu_verdict;"
        "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))\n"
        "try: kuzu_verdict.read(Path(sys.argv[1]), engine=Path(sys.argv[2]))\n"
        "except kuzu_verdict.Unread as hindrance: print(hindrance)"
    )
    engine = engine_that(tmp_path / "engine", "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    argv = [sys.executable, "-c", code, str(texts / "graph.db"), str(engine)]
    checked = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120)
    assert "too little memory" in checked.stdout and "SIGSEGV" in checked.stdout


def test_the_wal_of_the_backup_is_switched_in_and_undone(library: Library) -> None:
    """In place over a database with its own WAL, and undone; killed at every rename it is the old or the new."""
    manifest = library.take()
    saved = hashes(library.database.parent)
    library.database.write_bytes(b"KUZU" + bytes(5_000))
    for ending in (".wal", ".shadow"):
        library.database.with_name(f"graph.db{ending}").write_bytes(b"of another state")
    previous = hashes(library.database.parent)
    settings = library.settings
    restore_in_place(settings, settings.library("lib"), library.supply(manifest), new_id())
    assert hashes(library.database.parent) == saved
    assert kuzu_long_texts.lengths(library.database) == kuzu_long_texts.expected()
    undo(settings, settings.library("lib"))
    assert hashes(library.database.parent) == previous


class _Stop(BaseException): ...


@pytest.mark.parametrize("renames", range(5))
def test_a_switch_with_a_wal_that_is_killed_is_undone(
    texts: Path, tmp_path: Path, renames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = take(texts / "graph.db", tmp_path / "stage")
    living = tmp_path / "home"
    living.mkdir()
    for ending in ("", ".wal"):
        (living / f"graph.db{ending}").write_bytes(f"previous{ending}".encode())
    previous, real, left = hashes(living), Places.rename, renames + 1

    def rename(self: Places, source: Path, target: Path) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise _Stop
        real(self, source, target)

    incoming = _incoming(staged, living)
    with monkeypatch.context() as patch:
        patch.setattr(Places, "rename", rename)
        try:
            incoming.switch()
        except _Stop:
            assert renames < 4
    after = _way(staged, living)
    after.undo()
    assert hashes(living) == previous


def _way(staged: Staged, living: Path):
    from scriptorium.model import Part

    part = Part(staged.source, staged.kind, staged.path, 0, 0, NOW, NOW, "", "0.11.3", staged.tables)
    return KuzuSource(path=living / "graph.db").incoming(part, "0123456789ab")


def _incoming(staged: Staged, living: Path):
    incoming = _way(staged, living)
    incoming.prepare()
    for tree in staged.trees:
        if (place := incoming.receive(tree.at)) is not None:
            shutil.copyfile(tree.root, place)
    return incoming


def test_names_that_the_engine_cannot_express_have_no_fingerprint(tmp_path: Path, lab: Any) -> None:
    """A dot makes the engine look for another catalog, a quote ends its own statement: the raw copy is a backup."""
    names = ["tick``ed", 'double"quoted', "single'quoted", "back\\slash", "sla/sh", "blank ed", "größe", "-- x", "a.b"]
    for number, name in enumerate(names):
        key = f"`{name}`" if number < 8 else "id"
        schema = f"CREATE NODE TABLE `{name}`(id INT64, {key} STRING, PRIMARY KEY(id))"
        lab.script(None, tmp_path / "g.db", schema.replace("id STRING", "t STRING"), f"CREATE (:`{name}` {{id: 1}})")
    lab.script(None, tmp_path / "g.db", "CREATE NODE TABLE Plain(id INT64, PRIMARY KEY(id))")
    staged = take(tmp_path / "g.db", tmp_path / "stage")
    found = {name: held.rows for name, held in (staged.tables or {}).items()}
    assert found.pop("Plain") == 0 and set(found.values()) == {1}
    assert set(found) | set(staged.missing_fingerprints) == set(names)
    assert "a.b" in staged.missing_fingerprints and {"tick``ed", "sla/sh", "größe", "-- x", "blank ed"} <= set(found)


def test_the_reader_is_the_first_that_the_kernel_would_end(texts: Path, tmp_path: Path) -> None:
    does = (
        "import pathlib\n"
        f"pathlib.Path({str(tmp_path / 'score')!r}).write_text(pathlib.Path('/proc/self/oom_score_adj').read_text())\n"
    )
    with pytest.raises(reader.Unread):
        reader.read(texts / "graph.db", engine=engine_that(tmp_path / "engine", does))
    assert int((tmp_path / "score").read_text()) == 1000
