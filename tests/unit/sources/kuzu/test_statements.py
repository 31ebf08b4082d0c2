"""An export may come from anybody: any other statement is refused before the first one is run."""

from __future__ import annotations

from pathlib import Path

import kuzu
import pytest

from scriptorium.errors import UnsafeArchive
from scriptorium.sources.kuzu import export, statements

SCHEMA = "CREATE NODE TABLE `Book` (`id` INT64,`title` STRING, PRIMARY KEY(`id`));\n"
COPY = 'COPY `Book` (`id`,`title`) FROM "Book.parquet" (parallel=true);\n'
ATTACKS = (
    "COPY (MATCH (n) RETURN n.*) TO '{out}'",
    "copy (match (n) return n.*) to '{out}'",
    "LOAD FROM '/etc/passwd' RETURN *",
    "LOAD EXTENSION '/tmp/evil.so'",
    "INSTALL httpfs",
    "UPDATE httpfs",
    "ATTACH '{out}' AS other (dbtype kuzu)",
    "DETACH other",
    "USE other",
    "EXPORT DATABASE '{out}'",
    "IMPORT DATABASE '{out}'",
    "CALL THREADS = 1",
    "CALL show_tables() RETURN *",
    "CALL CREATE_PROJECTED_GRAPH('g', ['Book'], [])",
    "CREATE NODE TABLE Evil AS LOAD FROM '/etc/passwd' RETURN *",
    "CREATE REL TABLE E (FROM Book TO Book) AS LOAD FROM '/etc/passwd' RETURN *",
    "CREATE NODE TABLE E (id INT64 PRIMARY KEY) COPY (MATCH (n) RETURN n.*) TO '{out}'",
    "CREATE (n:Book {id: 1})",
    "MATCH (n) DETACH DELETE n",
    "DROP TABLE Book",
    "ALTER TABLE Book DROP title",
    "BEGIN TRANSACTION",
    "CHECKPOINT",
    "RETURN 1",
    "RETURN nextval('x') UNION LOAD FROM '/etc/passwd' RETURN *",
    "RETURN nextval('x'), 1",
    "EXPLAIN COPY (MATCH (n) RETURN n.*) TO '{out}'",
    "PROFILE COPY (MATCH (n) RETURN n.*) TO '{out}'",
    "CREATE TYPE evil AS INT64",
    "CREATE USER evil",
    "COMMENT ON TABLE Book IS 'x' COPY (MATCH (n) RETURN n.*) TO '{out}'",
    "CREATE SEQUENCE s START 1 COPY (MATCH (n) RETURN n.*) TO '{out}'",
    "CREATE MACRO m(x) AS x; COPY (MATCH (n) RETURN n.*) TO '{out}'",
    "/* CREATE SEQUENCE s */ COPY (MATCH (n) RETURN n.*) TO '{out}'",
    "// CREATE SEQUENCE s\nCOPY (MATCH (n) RETURN n.*) TO '{out}'",
    "CO/**/PY (MATCH (n) RETURN n.*) TO '{out}'",
    "COPY\u00a0(MATCH (n) RETURN n.*) TO '{out}'",
    "COPY\u2003(MATCH (n) RETURN n.*) TO '{out}'",
    "COMMENT ON TABLE Book IS 'a\\'; COPY (MATCH (n) RETURN n.*) TO '{out}'; //'",
    "COMMENT ON TABLE Book IS '\\q'; COPY (MATCH (n) RETURN n.*) TO '{out}'",
    "COMMENT ON TABLE `Book;COPY` IS \"x\"; COPY (MATCH (n) RETURN n.*) TO '{out}'",
    "CREATE NODE TABLE E (id INT64; COPY (MATCH (n) RETURN n.*) TO '{out}'; PRIMARY KEY(id))",
    "CREATE NODE TABLE E (id INT64, PRIMARY KEY(id)",
    "CREATE NODE TABLE E id INT64)",
    "COMMENT ON TABLE Book IS 'not closed",
    "/* not closed",
    "\0",
    "CREATE",
)
COPIES = (
    "COPY Book FROM '/etc/passwd'",
    "COPY Book FROM '../elsewhere.parquet'",
    "COPY Book FROM 'sub/Book.parquet'",
    "COPY Book FROM 'Boo*.parquet'",
    "COPY Book FROM 'Boo?.parquet'",
    "COPY Book FROM ['Book.parquet', '/etc/passwd']",
    "COPY Book FROM 'https://evil.example/a.parquet'",
    "COPY Book FROM 'link.parquet'",
    "COPY Book FROM 'none.parquet'",
    "COPY Book FROM 'schema.cypher'",
    "COPY Book FROM (LOAD FROM '/etc/passwd' RETURN *)",
    "COPY Book FROM Book.parquet",
    "COPY Book (MATCH (n) RETURN n) FROM 'Book.parquet'",
    "COPY Book FROM 'Book.parquet' (evil=true)",
    "COPY Book FROM 'Book.parquet' (from='a') RETURN 1",
    "COPY (MATCH (n) RETURN n.*) TO '{out}'",
)
INDEXES = (
    "CALL CREATE_FTS_INDEX('Book', 'i', ['title'], stopwords := '/etc/passwd')",
    "CALL CREATE_FTS_INDEX('Book', 'i', ['title'], stopwords := 'https://evil.example/a.csv')",
    "CALL CREATE_FTS_INDEX('Book', 'i', ['title'], stopwords := 'link.parquet')",
    "CALL DROP_FTS_INDEX('Book', 'i')",
    "CALL CREATE_VECTOR_INDEX('Book', 'i', 'e') RETURN 1",
    "CALL CREATE_VECTOR_INDEX((LOAD FROM '/etc/passwd' RETURN *))",
    "LOAD EXTENSION fts",
    "INSTALL vector",
    "ALTER TABLE Book ADD evil STRING",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An export of one table; beside its file is a link that leads out of the export."""
    made = tmp_path / "export"
    database = kuzu.Database(str(tmp_path / "old.db"), buffer_pool_size=64 << 20)
    connection = kuzu.Connection(database)
    connection.execute("CREATE NODE TABLE Book(id INT64, title STRING, PRIMARY KEY(id))")
    connection.execute("CREATE (:Book {id: 1, title: 'a tale'})")
    connection.execute(f"EXPORT DATABASE '{made}' (format='parquet')")
    connection.close()
    database.close()
    (made / "link.parquet").symlink_to(made / "Book.parquet")
    (made / "sub").mkdir()
    return made


@pytest.mark.parametrize(
    ("file", "attack"),
    [
        *(("schema.cypher", attack) for attack in ATTACKS),
        *(("copy.cypher", attack) for attack in COPIES),
        *(("index.cypher", attack) for attack in INDEXES),
    ],
)
def test_what_is_no_statement_of_an_export_is_refused(folder: Path, tmp_path: Path, file: str, attack: str) -> None:
    assert len(statements.plan(folder)) == 2
    with (folder / file).open("a") as text:
        text.write(attack.replace("{out}", str(tmp_path / "out.csv")) + ";\n")
    with pytest.raises(statements.Refused):
        statements.plan(folder)


def test_nothing_of_a_refused_export_is_run(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    (folder / "index.cypher").write_text(f"COPY (MATCH (n) RETURN n.*) TO '{out}';")
    with pytest.raises(UnsafeArchive, match="no statement of an export: COPY"):
        export.build(folder, tmp_path / "new.db", engine=None)
    assert not out.exists() and not (tmp_path / "new.db").exists()


@pytest.mark.parametrize("name", ["schema.cypher", "copy.cypher", "index.cypher"])
def test_a_file_of_statements_is_a_plain_file(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(statements.Refused, match="no plain file"):
        statements.plan(folder)
    (folder / name).unlink()
    (folder / name).write_bytes(b"\xff")
    with pytest.raises(statements.Refused, match="not UTF-8"):
        statements.plan(folder)


def test_statements_are_written_anew_from_their_words() -> None:
    text = "CREATE /* ; */ SEQUENCE// COPY\n`a;b` START -1;;COMMENT\tON TABLE t IS 'it\\'s; // \"x\"';"
    assert [statements.written(one) for one in statements.statements(text)] == [
        "CREATE SEQUENCE `a;b` START -1",
        "COMMENT ON TABLE t IS 'it\\'s; // \"x\"'",
    ]
    (macro,) = statements.statements("CREATE MACRO m(x) AS x / /* y */ / 2")
    assert statements.written(macro) == "CREATE MACRO m(x) AS x / / 2"
