"""What is read from a real database: every type, both layouts; and the verdict on one that is damaged."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from scriptorium.errors import NotFound, SnapshotBusy, SourceDamaged, ToolMissing
from scriptorium.model import Holder, Staged
from scriptorium.quiesce.pause import snapshot
from scriptorium.sources.kuzu import export, reader
from scriptorium.sources.kuzu.source import KuzuSource

# name: (type, value, another value, whether Kuzu's Parquet export can keep it)
TYPES = {
    "i8": ("INT8", "1", "2", True),
    "i16": ("INT16", "1", "2", True),
    "i32": ("INT32", "1", "2", True),
    "i64": ("INT64", "1", "2", True),
    "i128": ("INT128", "170141183460469231731687303715884105727", "170141183460469231731687303715884105726", False),
    "u8": ("UINT8", "1", "2", True),
    "u16": ("UINT16", "1", "2", True),
    "u32": ("UINT32", "1", "2", True),
    "u64": ("UINT64", "18446744073709551615", "18446744073709551614", True),
    "f": ("FLOAT", "1.1", "1.2", True),
    "d": ("DOUBLE", "1.7e-07", "1.7000001e-07", True),
    "b": ("BOOL", "true", "false", True),
    "s": ("STRING", "''", "' '", True),
    "blob": ("BLOB", "BLOB('\\\\xAA\\\\x00b')", "BLOB('\\\\xAA\\\\x01b')", True),
    "day": ("DATE", "date('2024-02-29')", "date('1815-12-10')", True),
    "ts": ("TIMESTAMP", "timestamp('2024-02-29 10:00:00.123456')", "timestamp('2024-02-29 10:00:00.123457')", True),
    "tns": (
        "TIMESTAMP_NS",
        "cast('2024-02-29 10:00:00.5' as TIMESTAMP_NS)",
        "cast('2024-02-29' as TIMESTAMP_NS)",
        True,
    ),
    "tms": (
        "TIMESTAMP_MS",
        "cast('2024-02-29 10:00:00.123' as TIMESTAMP_MS)",
        "cast('2024-02-29' as TIMESTAMP_MS)",
        True,
    ),
    "tsec": (
        "TIMESTAMP_SEC",
        "cast('2024-02-29 10:00:00' as TIMESTAMP_SEC)",
        "cast('2024-02-29' as TIMESTAMP_SEC)",
        True,
    ),
    "ttz": (
        "TIMESTAMP_TZ",
        "cast('2024-02-29 10:00:00+02' as TIMESTAMP_TZ)",
        "cast('2024-02-29' as TIMESTAMP_TZ)",
        True,
    ),
    "iv": ("INTERVAL", "interval('1 year')", "interval('360 days')", False),
    "uuid": (
        "UUID",
        "uuid('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11')",
        "uuid('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12')",
        True,
    ),
    "dec": ("DECIMAL(18, 3)", "cast(1.5 as DECIMAL(18, 3))", "cast(1.501 as DECIMAL(18, 3))", False),
    "list": ("INT64[]", "[1, 2]", "[2, 1]", True),
    "array": ("INT64[2]", "[1, 2]", "[2, 1]", True),
    "nested": ("STRING[][]", "[['a', ''], []]", "[['a'], ['']]", True),
    "struct": ("STRUCT(a INT64, b STRING)", "{a: 1, b: ''}", "{a: 1, b: '1'}", False),
    "map": ("MAP(STRING, INT64)", "map(['k', 'l'], [1, 2])", "map(['k', 'l'], [2, 1])", True),
    "list of structs": ("STRUCT(a DOUBLE)[]", "[{a: 0.1}]", "[{a: 0.1}, {a: 0.2}]", False),
    "union": ("UNION(n INT64, s STRING)", "union_value(n := 5)", "union_value(n := 6)", False),
}
SCHEMA = (
    "CREATE NODE TABLE Person(id STRING, age INT64, PRIMARY KEY(id))",
    "CREATE NODE TABLE Book(id INT64, `odd name` STRING, PRIMARY KEY(id))",
    "CREATE REL TABLE KNOWS(FROM Person TO Person, since DATE)",
)
ROWS = (
    "CREATE (:Person {id: 'a', age: 1})",
    "CREATE (:Person {id: 'b', age: NULL})",
    "CREATE (:Person {id: '', age: 3})",
    "CREATE (:Book {id: 1, `odd name`: ''})",
    "CREATE (:Book {id: 2})",
    "MATCH (a:Person {id: 'a'}), (b:Person {id: 'b'}) CREATE (a)-[:KNOWS {since: date('2020-01-01')}]->(b)",
    "MATCH (a:Person {id: 'b'}), (b:Person {id: 'a'}) CREATE (a)-[:KNOWS {since: date('2020-01-01')}]->(b)",
    "MATCH (a:Person {id: 'a'}), (b:Book {id: 1}) CREATE (a)-[:OWNS {n: 1}]->(b)",
)
OWNS = "CREATE REL TABLE OWNS(FROM Person TO Book, FROM Book TO Book, n INT64)"


def read(database: Path, engine: Path | None = None) -> dict[str, tuple[int, str]]:
    content = reader.read(database, engine=engine)
    return {name: (table.rows, table.fingerprint) for name, table in content.tables.items()}


def take(source: KuzuSource, stage: Path) -> Staged:
    stage.mkdir()
    return snapshot(source, stage, ())


@pytest.fixture
def make(lab: ModuleType, tmp_path: Path) -> Any:
    def made(name: str, *statements: str, schema: tuple[str, ...] = (*SCHEMA, OWNS)) -> Path:
        lab.script(None, tmp_path / name, *schema, *statements)
        return tmp_path / name

    return made


@pytest.fixture(scope="module")
def unchanged(lab: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    database = tmp_path_factory.mktemp("unchanged") / "before"
    lab.script(None, database, *SCHEMA, OWNS, *ROWS)
    return database, read(database)


def test_rows_count_whatever_their_order_and_their_columns(make: Any) -> None:
    first = read(make("first", *ROWS))
    assert {name: rows for name, (rows, _) in first.items()} == {"Book": 2, "KNOWS": 2, "OWNS": 1, "Person": 3}
    other_order = (
        "CREATE NODE TABLE Book(`odd name` STRING, id INT64, PRIMARY KEY(id))",
        "CREATE NODE TABLE Person(age INT64, id STRING, PRIMARY KEY(id))",
        *SCHEMA[2:],
        OWNS,
    )
    assert read(make("second", *reversed(ROWS[:5]), *reversed(ROWS[5:]), schema=other_order)) == first


@pytest.mark.parametrize(
    ("change", "tables"),
    [
        ("MATCH (p:Person {id: 'a'}) SET p.age = 2", {"Person"}),
        ("MATCH (p:Person {id: 'a'}) SET p.age = NULL", {"Person"}),
        ("MATCH (b:Book {id: 2}) SET b.`odd name` = ''", {"Book"}),
        ("CREATE (:Person {id: 'c'})", {"Person"}),
        ("MATCH (b:Book {id: 2}) DELETE b", {"Book"}),
        ("MATCH (a:Person {id: 'a'})-[k:KNOWS]->() DELETE k", {"KNOWS"}),
        ("MATCH (a:Person {id: 'a'})-[k:KNOWS]->() SET k.since = date('2020-01-02')", {"KNOWS"}),
        (ROWS[5], {"KNOWS"}),  # a parallel edge
        ("MATCH (a:Book {id: 1}), (b:Book {id: 1}) CREATE (a)-[:OWNS {n: 1}]->(b)", {"OWNS"}),
        ("ALTER TABLE Person ADD nick STRING", {"Person"}),
    ],
)
def test_a_change_shows_in_its_table_and_in_no_other(
    lab: ModuleType, tmp_path: Path, unchanged: tuple[Path, Any], change: str, tables: set[str]
) -> None:
    shutil.copy(unchanged[0], tmp_path / "after")
    lab.script(None, tmp_path / "after", change)
    before, after = unchanged[1], read(tmp_path / "after")
    assert {name for name in before if before[name] != after[name]} == tables


def test_every_type_is_distinguished_and_survives_the_export(lab: ModuleType, tmp_path: Path) -> None:
    def build(name: str, changed: bool) -> Path:
        # a table for each type; nulls before and after, which is where Kuzu's Arrow goes wrong
        statements = []
        for number, (kind, value, other, _) in enumerate(TYPES.values()):
            statements.append(f"CREATE NODE TABLE T{number}(id INT64, v {kind}, PRIMARY KEY(id))")
            for key, text in enumerate(("", value, "", other if changed else value, "")):
                statements.append(f"CREATE (:T{number} {{id: {key}" + (f", v: {text}}})" if text else "})"))
        lab.script(None, tmp_path / name, *statements)
        return tmp_path / name

    one, same, other = (read(build(name, changed)) for name, changed in (("1", False), ("2", False), ("3", True)))
    assert one == same
    assert {word for number, word in enumerate(TYPES) if one[f"T{number}"] == other[f"T{number}"]} == set()


def test_raw_copy_and_rebuilt_export_have_the_same_fingerprints(lab: ModuleType, tmp_path: Path) -> None:
    kinds = [(kind, value) for kind, value, _, keeps in TYPES.values() if keeps]
    columns = ", ".join(f"v{number} {kind}" for number, (kind, _) in enumerate(kinds))
    values = ", ".join(f"v{number}: {value}" for number, (_, value) in enumerate(kinds))
    lab.script(
        None,
        tmp_path / "app.db",
        f"CREATE NODE TABLE T(id STRING, {columns}, PRIMARY KEY(id))",
        "CREATE NODE TABLE S(id SERIAL, x INT64, PRIMARY KEY(id))",
        "CREATE REL TABLE R(FROM T TO T, FROM T TO S, w DOUBLE)",
        "CREATE (:T {id: 'empty'})",  # nulls before what is not null: that is where Kuzu goes wrong
        f"CREATE (:T {{id: 'full, \"quoted\"', {values}}})",
        "UNWIND range(1, 50) AS x CREATE (:S {x: x})",
        "MATCH (s:S) WHERE s.x < 20 DELETE s",
        "MATCH (a:T {id: 'empty'}), (s:S) CREATE (a)-[:R {w: 0.1}]->(s)",
        "MATCH (a:T {id: 'empty'}), (s:T) CREATE (a)-[:R {w: 0.1}]->(s)",
    )
    staged = take(KuzuSource(path=tmp_path / "app.db"), tmp_path / "stage")
    assert staged.warnings == ()
    export.build(tmp_path / "stage" / "export", tmp_path / "rebuilt.db", engine=None)
    rebuilt = reader.read(tmp_path / "rebuilt.db", engine=None)
    assert rebuilt.tables == staged.tables


@pytest.mark.parametrize("word", [word for word, row in TYPES.items() if not row[3]])
def test_what_parquet_would_lose_is_not_exported_but_reported(lab: ModuleType, tmp_path: Path, word: str) -> None:
    lab.script(None, tmp_path / "app.db", f"CREATE NODE TABLE T(id INT64, v {TYPES[word][0]}, PRIMARY KEY(id))")
    staged = take(KuzuSource(path=tmp_path / "app.db"), tmp_path / "stage")
    assert staged.export is None and not (tmp_path / "stage" / "export").exists()
    assert TYPES[word][0].split("(")[0] in staged.warnings[0]
    assert [tree.at for tree in staged.trees] == ["kuzu/app.db"]


def test_large_tables_are_read_in_portions(lab: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("".join(f"{number},{'x' * 40}\n" for number in range(420_000)))
    (tmp_path / "edges.csv").write_text("".join(f"{n % 1000},{n % 777}\n" for n in range(250_000)))
    lab.script(
        None,
        tmp_path / "db",
        "CREATE NODE TABLE T(id INT64, s STRING, PRIMARY KEY(id))",
        "CREATE REL TABLE R(FROM T TO T)",
        f"COPY T FROM '{tmp_path}/rows.csv'",
        f"COPY R FROM '{tmp_path}/edges.csv'",
        "MATCH (t:T) WHERE t.id >= 100000 AND t.id < 350000 DELETE t",  # a gap wider than a portion
    )
    assert {name: rows for name, (rows, _) in read(tmp_path / "db").items()} == {"T": 170_000, "R": 250_000}


def test_the_folder_layout_is_read_by_its_own_engine(lab: ModuleType, tmp_path: Path, old_kuzu: Path) -> None:
    schema = (*SCHEMA, "CREATE REL TABLE GROUP OWNS(FROM Person TO Book, FROM Book TO Book, n INT64)")
    lab.script(str(old_kuzu), tmp_path / "app.db", *schema, *ROWS)
    with pytest.raises(ToolMissing, match=r"storage version 38, kuzu 0\.11") as missing:
        take(KuzuSource(path=tmp_path / "app.db"), tmp_path / "wrong")
    assert "kuzu==0.10.0" in missing.value.hint and missing.value.on == str(tmp_path / "app.db")
    assert list((tmp_path / "wrong").iterdir()) == []
    staged = take(KuzuSource(path=tmp_path / "app.db", engine=old_kuzu), tmp_path / "stage")
    assert staged.engine_version == "0.10.0"
    assert {name: table.rows for name, table in (staged.tables or {}).items()} == {
        "Book": 2, "KNOWS": 2, "OWNS": 1, "Person": 3}  # fmt: skip
    assert Path(staged.trees[0].root).is_dir()


def test_a_database_without_a_wal_and_what_a_snapshot_stages(make: Any, tmp_path: Path) -> None:
    database = make("app.db", *ROWS)
    database.chmod(0o640)
    assert not database.with_name("app.db.wal").exists()
    source = KuzuSource(path=database, name="graph")
    survey = source.survey(())
    staged = take(source, tmp_path / "stage")
    assert (survey.bytes, survey.files) == (database.stat().st_size, 1)
    assert survey.staged_bytes >= survey.bytes
    assert [tree.at for tree in staged.trees] == ["graph/app.db", "exports/graph"]
    assert (staged.path, staged.export, source.place) == ("graph/app.db", "exports/graph", "graph/app.db")
    assert Path(staged.trees[0].root).stat().st_mode & 0o7777 == 0o640
    assert {path.name for path in Path(staged.trees[1].root).iterdir()} >= {
        "schema.cypher",
        "copy.cypher",
        "Book.parquet",
    }
    assert KuzuSource(path=database, at="data/kuzu/b.db").place == "data/kuzu/b.db"


def test_a_database_that_was_never_checkpointed(lab: ModuleType, tmp_path: Path) -> None:
    with lab.start(tmp_path / "app", checkpoint_every=0, bulk_every=0, ballast=0) as writer:
        staged = take(KuzuSource(path=writer.database), tmp_path / "stage")
        assert lab.complaint(Path(staged.trees[0].root)) == ""


def test_a_symlink_leads_to_the_database_and_to_its_wal(lab: ModuleType, tmp_path: Path) -> None:
    with lab.start(tmp_path / "app", checkpoint_every=0, ballast=400) as writer:
        (tmp_path / "link.db").symlink_to(writer.database)
        acknowledged = writer.acknowledged
        staged = take(KuzuSource(path=tmp_path / "link.db"), tmp_path / "stage")
        assert lab.complaint(Path(staged.trees[0].root), acknowledged) == ""


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda path: path.unlink(), NotFound),
        (lambda path: path.write_bytes(b"PK\3\4" + os.urandom(5_000)), SourceDamaged),
        (lambda path: path.write_bytes(path.read_bytes()[:9_000]), SourceDamaged),
        (lambda path: path.write_bytes(path.read_bytes()[:4] + b"\x63\0\0\0" + path.read_bytes()[8:]), ToolMissing),
        (
            lambda path: path.write_bytes(path.read_bytes()[:4096] + os.urandom(path.stat().st_size - 4096)),
            (SourceDamaged, type(None)),  # some noise asks for more memory than there is: no verdict
        ),
        (lambda path: path.with_name("app.db.wal").write_bytes(os.urandom(20_000)), (SourceDamaged, type(None))),
    ],
    ids=["gone", "another file", "truncated", "a future version", "noise inside", "noise in the WAL"],
)
def test_damage_is_a_verdict_and_never_a_crash_of_ours(make: Any, tmp_path: Path, damage: Any, error: Any) -> None:
    database = make(
        "app.db", *ROWS, "UNWIND range(10, 5000) AS i CREATE (:Book {id: i, `odd name`: CAST(i AS STRING)})"
    )
    damage(database)
    stage = tmp_path / "stage"
    try:
        take(KuzuSource(path=database, patience=10), stage)
    except Exception as raised:  # noqa: BLE001
        assert isinstance(raised, error), raised
        assert str(tmp_path) in raised.on and raised.hint  # type: ignore[attr-defined]
        assert list(stage.iterdir()) == []
    else:
        assert type(None) in (error if isinstance(error, tuple) else ())


def test_noise_anywhere_never_crashes_the_caller(make: Any, tmp_path: Path) -> None:
    """Kuzu has no checksums: some of these open. None may end this process, and none may hang."""
    database = make(
        "app.db", *ROWS, "UNWIND range(10, 3000) AS i CREATE (:Book {id: i, `odd name`: CAST(i AS STRING)})"
    )
    whole, dice, verdicts = database.read_bytes(), random.Random(5), []
    for number in range(8):
        broken = bytearray(whole)
        for _ in range(40):
            at = dice.randrange(4096, len(broken) - 64)
            broken[at : at + 64] = dice.randbytes(64)
        (tmp_path / f"broken{number}.db").write_bytes(broken)
        try:
            read(tmp_path / f"broken{number}.db")
            verdicts.append("opens")
        except reader.Unreadable as verdict:
            verdicts.append(str(verdict))
    assert any(verdict != "opens" for verdict in verdicts)
    assert all(verdicts)


def test_a_reader_that_crashes_is_a_verdict(monkeypatch: pytest.MonkeyPatch, make: Any, tmp_path: Path) -> None:
    """An engine that dies of a signal, as kuzu does on some damaged files."""
    engine = tmp_path / "engine" / "kuzu"
    engine.mkdir(parents=True)
    (engine / "__init__.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    with pytest.raises(SourceDamaged, match="crashes the reader \\(SIGSEGV\\)"):
        take(KuzuSource(path=make("app.db", *ROWS), engine=engine.parent), tmp_path / "stage")


def test_a_missing_engine_is_reported(make: Any, tmp_path: Path) -> None:
    engine = tmp_path / "engine" / "kuzu"
    engine.mkdir(parents=True)
    (engine / "__init__.py").write_text("raise ImportError('no such engine')\n")
    with pytest.raises(ToolMissing, match="kuzu package is missing") as caught:
        take(KuzuSource(path=make("app.db"), engine=engine.parent), tmp_path / "stage")
    assert str(engine.parent) in caught.value.what and caught.value.on == str(tmp_path / "app.db")


def test_an_unwritable_stage_leaves_no_partial_copy(make: Any, tmp_path: Path) -> None:
    stage = tmp_path / "stage"
    stage.mkdir()
    (stage / "raw").write_text("in the way")
    with pytest.raises(FileExistsError):
        KuzuSource(path=make("app.db")).capture(stage)
    assert list(stage.iterdir()) == []


def test_holders_finds_only_the_writer(lab: ModuleType, tmp_path: Path) -> None:
    with lab.start(tmp_path / "app", ballast=400) as writer:
        source = KuzuSource(path=writer.database)
        assert [holder.pid for holder in source.holders()] == [writer.process.pid]
        assert "python" in str(next(source.holders()))
        writer.kill()
        assert list(source.holders()) == []
    shutil.rmtree(tmp_path / "app")
    assert list(source.holders()) == []


def test_holders_sees_the_writer_of_a_folder(lab: ModuleType, tmp_path: Path, old_kuzu: Path) -> None:
    with lab.start(tmp_path / "app", ballast=400, engine=str(old_kuzu)) as writer:
        found = list(KuzuSource(path=writer.database).holders())
        assert [holder.pid for holder in found] == [writer.process.pid]
        assert isinstance(found[0], Holder)


def test_settings_are_strict(tmp_path: Path) -> None:
    for wrong in (
        {"nmae": "x"},
        {"name": "../x"},
        {"patience": 0},
        {"quiesce": {}},
        {"quiesce": {"pid": 5, "pid_file": "x"}},
    ):
        with pytest.raises(ValueError, match=r"."):
            KuzuSource(path=tmp_path, **wrong)
    assert isinstance(SnapshotBusy("x"), Exception)
