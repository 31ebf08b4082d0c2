"""A dump may come from anybody: nothing in it reaches this machine or the server's, in any form.

Each form would make the canary, a file, when it runs. The server runs as another user, so it lies where everybody
may write.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from postgres_items import ask

from scriptorium.catalog import Catalog
from scriptorium.errors import ScriptoriumError, UnsafeArchive
from scriptorium.operations import database
from scriptorium.operations.drill import drill
from scriptorium.operations.restore import restore
from scriptorium.requests import DrillRequest, RestoreRequest
from scriptorium.settings import Settings, load
from scriptorium.sources.postgres import adoption
from scriptorium.sources.postgres.embedded import EmbeddedPostgres
from scriptorium.sources.postgres.programs import find
from scriptorium.sources.postgres.restore import psql
from scriptorium.sources.postgres.restore.examination import Examined, examine_dump
from scriptorium.sources.postgres.restore.psql import run_script
from scriptorium.sources.postgres.source import PostgresSource
from scriptorium.sources.postgres.toc import read_toc
from tests.shared.adoption import adopt

BOOKS = (
    "CREATE TABLE items (id int PRIMARY KEY, title text); INSERT INTO items SELECT g, 't' FROM generate_series(1, 9) g;"
)
# Lines put between the statements of a dump. CANARY is a path.
COMMANDS = {
    "command": r"\! touch CANARY",
    "behind a statement": r"SELECT pg_catalog.setval('none', 1, true) WHERE false; \! touch CANARY",
    "in a statement": "COMMENT ON TABLE public.items IS \\! touch CANARY\n'x';",
    "after blanks": "  \t\\! touch CANARY",
    "at once": r"\!touch CANARY",
    "without a path": "\\! sh -c 'touch CANARY'\\\\ ",
    "piped": "COMMENT ON TABLE public.items IS 'x' \\g |touch CANARY",
    "piped, expanded": "COMMENT ON TABLE public.items IS 'x' \\gx |touch CANARY",
    "output": "\\o |touch CANARY\nCOMMENT ON TABLE public.items IS 'x';\n\\o",
    "written": r"\w |touch CANARY",
    "backticks": "\\set x `touch CANARY`",
    "backticks echoed": "\\echo `touch CANARY`",
    "condition": "\\if `touch CANARY; echo true`\n\\endif",
    "copy from a program": "\\copy public.items from program 'touch CANARY'",
    "copy to a program": "\\copy (select 1) to program 'touch CANARY'",
    "editor": "\\setenv PSQL_EDITOR 'touch CANARY #'\n\\e CANARY",
    "generated": "SELECT pg_catalog.setval('x', 1, true), '\\! touch CANARY' \\gexec",
    "after data": "COPY public.items (id, title) FROM stdin;\n\\.\n\\! touch CANARY",
    "on the line of data": "COPY public.items (id, title) FROM stdin; \\! touch CANARY\n\\.",
    "after a literal": "COMMENT ON TABLE public.items IS E'\\'' ; \\! touch CANARY",
    "after a comment": "/* /* */ '*/ \\! touch CANARY\n--'",
    "after another line end": "-- x\r\\! touch CANARY",
    "with its own key": "\\unrestrict KEY\n\\! touch CANARY",
    "another key": "\\unrestrict abc\n\\restrict abc\n\\unrestrict abc\n\\! touch CANARY",
    "strings as before": "SET standard_conforming_strings = off;\n"
    "COMMENT ON TABLE public.items IS 'a\\'';\n\\! touch CANARY\n--'",
    "another database": "\\connect postgres",
    "a file": r"\i CANARY",
}
STATEMENTS = {
    "to a program": "COPY (SELECT 1) TO PROGRAM 'touch CANARY';",
    "from a program": "COPY public.items FROM PROGRAM 'touch CANARY';",
    "to a file": "copy/**/public.items\nTO 'CANARY';",
    "in a block": "DO $$ BEGIN EXECUTE 'COPY (SELECT 1) TO PROGRAM ' || quote_literal('touch CANARY'); END $$;",
    "large object": "SELECT lo_export(lo_from_bytea(0, 'x'), 'CANARY');",
    "behind a function": "CREATE FUNCTION begin() RETURNS int LANGUAGE sql AS 'SELECT 1';"
    " COPY (SELECT 1) TO PROGRAM 'touch CANARY'; CREATE VIEW e AS SELECT CASE WHEN true THEN 1 END;",
    "in a function": "CREATE FUNCTION f(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN"
    " COPY (SELECT 1) TO PROGRAM 'touch CANARY'; RETURN 1; END $$;\nCREATE INDEX ON public.items (f(id));",
    "in a query of a query": "CREATE TABLE x AS SELECT"
    " query_to_xml('copy (select 1) to program ''touch CANARY''', true, true, '');",
    "a literal of bits that goes on": "SET standard_conforming_strings = off;\n"
    "COMMENT ON TABLE public.items IS b'0'\n'\\'; COPY (SELECT 1) TO PROGRAM $$touch CANARY$$; --';",
    "strings switched by a function": "SELECT set_config('standard_conforming_' || 'strings', 'off', false);\n"
    "COMMENT ON TABLE public.items IS 'a\\'; COPY (SELECT 1) TO PROGRAM $$touch CANARY$$; --';",
    "a literal that goes on": "COMMENT ON TABLE public.items IS E'a'\n'b\\';"
    " COPY (SELECT 1) TO PROGRAM $$touch CANARY$$; --';",
    "an encoding by another name": "SET NAMES 'SJIS';\nCOMMENT ON TABLE public.items IS E'\udc83\\';"
    " COPY (SELECT 1) TO PROGRAM $$touch CANARY$$; --';",
    "an encoding with a hyphen": "SET client_encoding = 'S-JIS';\nCOMMENT ON TABLE public.items IS E'\udc83\\';"
    " COPY (SELECT 1) TO PROGRAM $$touch CANARY$$; --';",
    "an encoding with an escape": "SET client_encoding = E'S\\112IS';\nCOMMENT ON TABLE public.items IS E'\udc83\\';"
    " COPY (SELECT 1) TO PROGRAM $$touch CANARY$$; --';",
    "an encoding in two pieces": "SET client_encoding = 'SJ'\n'IS';\nCOMMENT ON TABLE public.items IS E'\udc83\\';"
    " COPY (SELECT 1) TO PROGRAM $$touch CANARY$$; --';",
    "a role, as a row": "INSERT INTO pg_catalog.pg_auth_members SELECT;",
    "a catalog, as a row": "INSERT INTO pg_db_role_setting VALUES (0, 0, '{session_preload_libraries=CANARY}');",
    "a catalog, as rows": 'COPY "pg_catalog".pg_db_role_setting FROM stdin;\n0\t0\t{work_mem=1MB}\n\\.',
    "system tables": "SET allow_system_table_mods = on;",
    "the server's settings": "ALTER SYSTEM SET archive_command = 'touch CANARY';",
    "rows of a view": "CREATE VIEW public.v AS SELECT * FROM pg_catalog.pg_db_role_setting;\n"
    "INSERT INTO public.v VALUES (0, 0, '{work_mem=1MB}');",
    "rows of a view, by its name alone": 'CREATE OR REPLACE VIEW public."V w" AS SELECT * FROM pg_authid;\n'
    'SET search_path = public;\nINSERT INTO "V w" VALUES (1);',
    "rows of a table that a rule makes a view": "CREATE TABLE public.t (a oid, b oid, c text[]);\n"
    'CREATE RULE "_RETURN" AS ON SELECT TO public.t DO INSTEAD SELECT * FROM pg_db_role_setting;\n'
    "COPY public.t FROM stdin;\n0\t0\t{work_mem=1MB}\n\\.",
    "a rule": "CREATE RULE r AS ON INSERT TO public.items DO ALSO\n"
    "INSERT INTO pg_catalog.pg_db_role_setting VALUES (0, 0, '{work_mem=1MB}');",
    "a rule that deletes": 'CREATE OR REPLACE RULE r AS ON DELETE TO public.items DO DELETE FROM ONLY "pg_authid";',
    "a function that writes roles": "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN\n"
    'UPDATE /* */ pg_catalog."pg_authid" SET rolsuper = true; RETURN 1; END $$;',
    "a body that writes roles": "CREATE FUNCTION f() RETURNS void LANGUAGE sql BEGIN ATOMIC\n"
    "UPDATE pg_authid SET rolsuper = true; END;",
    "a role": "CREATE ROLE stranger SUPERUSER LOGIN;",
    "a library": "LOAD 'CANARY';",
    "a function in C": "CREATE FUNCTION x() RETURNS int LANGUAGE c AS 'CANARY', 'x';",
    "another name for a function": "CREATE FUNCTION x(text) RETURNS text LANGUAGE internal AS 'pg_read_file';",
    "a file of the server's": "CREATE VIEW v AS SELECT \"pg_read_file\"('/etc/passwd');",
    "a table of a program": "CREATE FOREIGN TABLE x (a text) SERVER s OPTIONS (program 'touch CANARY');",
    "whenever something is made": "CREATE EVENT TRIGGER x ON ddl_command_end EXECUTE FUNCTION f();",
    "an untrusted language": "CREATE EXTENSION IF NOT EXISTS plpython3u WITH SCHEMA pg_catalog;",
}


@pytest.fixture
def canary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder) / "canary"


class Home:
    """A library with a database, and plain dumps of it."""

    def __init__(self, url: str, folder: Path, programs: Path) -> None:
        self.url, self.folder, self.programs = url, folder, programs
        self.source = PostgresSource(database=url, tools=programs)

    def settings(self, name: str = "here") -> Settings:
        place = self.folder / name
        place.mkdir(exist_ok=True)
        (place / "scriptorium.toml").write_text(
            f'[libraries.books]\nsources = [{{ name = "postgres", kind = "postgres", database = "{self.url}",'
            f' tools = "{self.programs}", staging = "{place}" }}]\n\n[stores.local]\nkind = "local"\npath = "backups"\n'
        )
        return load(place / "scriptorium.toml", {})

    def dump(self, kind: str = "p") -> Path:
        file = self.folder / f"dump.{kind}"
        subprocess.run([self.programs / "pg_dump", f"--format={kind}", f"--file={file}", self.url], check=True)
        return file

    def script(self, lines: str, canary: Path) -> Path:
        """A dump with these lines in the middle."""
        file = self.dump()
        text = file.read_text()
        key = next((line.split()[1] for line in text.split("\n") if line.startswith("\\restrict")), "")
        mark = "\nALTER TABLE ONLY public.items\n"
        assert mark in text
        lines = lines.replace("CANARY", str(canary)).replace("KEY", key)
        file.write_bytes(text.replace(mark, f"\n{lines}\n{mark}").encode("utf-8", "surrogateescape"))
        return file

    def forged(self, statement: str, canary: Path) -> Path:
        """A dump for pg_restore with this statement in its table of contents."""
        code = statement.replace("CANARY", str(canary)).encode()
        own = f"CREATE VIEW public.placeholder AS SELECT '{'x' * len(code)}'::text AS x".encode()
        with psycopg.connect(self.url, autocommit=True) as session:
            session.execute(own)
        file = self.dump("c")
        with psycopg.connect(self.url, autocommit=True) as session:
            session.execute("DROP VIEW public.placeholder")
        data = file.read_bytes()
        begins = data.index(b"CREATE VIEW public.placeholder")
        ends = data.index(b"::text AS x;\n", begins) + len(b"::text AS x;\n")
        file.write_bytes(data[:begins] + code.ljust(ends - begins) + data[ends:])
        return file


@pytest.fixture(scope="module")
def home(server: EmbeddedPostgres, new_database: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(new_database(server, BOOKS), tmp_path_factory.mktemp("attacks"), server.programs)


@pytest.mark.parametrize("form", [*COMMANDS, *STATEMENTS])
def test_a_file_that_is_loaded_or_adopted(home: Home, canary: Path, form: str) -> None:
    file = home.script((COMMANDS | STATEMENTS)[form], canary)
    with pytest.raises(UnsafeArchive) as refused:
        database.restore_database(home.source, file, clean=True)
    assert refused.value.hint
    with pytest.raises(UnsafeArchive):
        adopt(home.settings(), file)
    assert not canary.exists() and not Catalog(home.settings()).backups()
    assert ask(home.url, "SELECT count(*) FROM items") == [(9,)]


@pytest.mark.parametrize("form", COMMANDS)
def test_psql_itself_runs_no_command(home: Home, new_database: Callable[..., str], server, canary, form) -> None:
    """As if the examination had overlooked something: nothing was examined here."""
    url = new_database(server)
    file = home.script(COMMANDS[form], canary)
    with pytest.raises(ScriptoriumError):
        run_script(file, PostgresSource(database=url).address(), 0, home.programs, Examined())
    assert not canary.exists()
    assert ask(url, "SELECT count(*) FROM pg_class WHERE relname = 'items'") == [(0,)]


def test_a_psql_that_knows_no_key(home: Home, canary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dump that passes the examination is restored."""
    monkeypatch.setattr(psql, "_RESTRICTED", dict.fromkeys(range(13, 99), (99, 0)))
    database.restore_database(home.source, home.dump(), clean=True)
    assert ask(home.url, "SELECT count(*) FROM items") == [(9,)]


def test_what_is_allowed_is_loaded(home: Home, canary: Path) -> None:
    """``--trust``: statements, but no command."""
    file = home.script(STATEMENTS["to a program"], canary)
    adopted = adopt(home.settings("trusting"), file, trusted=True)
    assert "--trust" in "".join(adopted.warnings)
    database.restore_database(home.source, file, clean=True, trusted=True)
    assert canary.exists()
    canary.unlink()
    restore(home.settings("trusting"), RestoreRequest(reference=adopted.backup.id, safety=False))
    assert canary.exists()
    with pytest.raises(UnsafeArchive):
        database.restore_database(home.source, home.script(COMMANDS["command"], canary), clean=True, trusted=True)


def test_a_library_with_functions_is_restored(
    server: EmbeddedPostgres, new_database: Callable[..., str], everything: str, tmp_path: Path
) -> None:
    """What dumps lawfully hold: data that looks like code, functions of every kind, quoted names."""
    url = new_database(server, everything)
    with psycopg.connect(url, autocommit=True) as session:
        session.execute(
            """CREATE FUNCTION half(i int) RETURNS int IMMUTABLE BEGIN ATOMIC
            SELECT CASE WHEN i > 1 THEN i / 2 END; END;
            CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS $_$
            BEGIN NEW.t := '\\! x;'; RETURN NEW; END $_$;
            CREATE TABLE "from" ("to" text, "select;" text DEFAULT E'it''s \\\\ $$', t text);
            CREATE TRIGGER t BEFORE INSERT ON "from" FOR EACH ROW EXECUTE FUNCTION touched();
            INSERT INTO "from" VALUES (E'COPY x TO PROGRAM \\n\\\\.\\n\\\\! y'), ('pg_read_file()');
            CREATE RULE r AS ON DELETE TO "from" DO ALSO (SELECT 1; SELECT 2);
            COMMENT ON TABLE "from" IS E'\\\\! touch; DO $$ -- ';"""
        )
    source = PostgresSource(database=url, tools=server.programs)
    for number, extra in enumerate(([], ["--inserts"], ["--disable-dollar-quoting"])):
        file = tmp_path / f"{number}.sql"
        subprocess.run([server.programs / "pg_dump", *extra, f"--file={file}", url], check=True)
        again = new_database(server)
        database.restore_database(PostgresSource(database=again, tools=server.programs), file)
        assert ask(again, 'SELECT count(*) FROM "from"') == [(2,)]
    file = tmp_path / "custom.dump"
    database.backup_database(source, file)
    database.restore_database(source, file, clean=True)
    assert ask(url, 'SELECT count(*) FROM "from"') == [(2,)]


@pytest.mark.parametrize("form", ["to a program", "in a function", "in a block"])
def test_a_dump_for_pg_restore(home: Home, canary: Path, form: str) -> None:
    """A statement in its table of contents, instead of one of the same length."""
    file = home.forged(STATEMENTS[form], canary)
    with pytest.raises(UnsafeArchive):
        database.restore_database(home.source, file, clean=True)
    with pytest.raises(UnsafeArchive):
        adopt(home.settings(), file)
    assert not canary.exists()
    assert ask(home.url, "SELECT count(*) FROM items") == [(9,)]


_ROWS = b"COPY public.items (id, title) FROM stdin;\n"
_DROPPED = b"DROP TABLE public.items;\n"
_PROGRAM = b"COPY (SELECT 1) TO PROGRAM 'touch CANARY';\n"


@pytest.mark.parametrize(("text", "forged"), [(_ROWS, _ROWS + _PROGRAM), (_DROPPED, _DROPPED + _PROGRAM)])
def test_what_pg_restore_sends_and_does_not_show(home: Home, canary: Path, text: bytes, forged: bytes) -> None:
    """Behind the statement that brings rows, and in those of ``--clean``."""
    folder = home.folder / f"unseen-{text[:4].decode()}"
    subprocess.run([home.programs / "pg_dump", "-Fd", "-Z0", "-f", folder, home.url], check=True)
    contents = folder / "toc.dat"
    forged = forged.replace(b"CANARY", str(canary).encode())
    data, (old, new) = contents.read_bytes(), ((b"\0" + len(one).to_bytes(4, "little") + one) for one in (text, forged))
    assert data.count(old) == 1
    contents.write_bytes(data.replace(old, new))
    with pytest.raises(UnsafeArchive):
        database.restore_database(home.source, folder, clean=True)
    assert not canary.exists()
    contents.write_bytes(data)
    database.restore_database(home.source, folder, clean=True)


@pytest.mark.parametrize("way", ["a link", "its objects", "its rows"])
def test_a_dump_in_a_folder_leads_nowhere_else(home: Home, tmp_path: Path, way: str) -> None:
    """An older pg_restore opens whatever file is named, as the user who restores."""
    secret, folder = tmp_path / "secret", tmp_path / "dump"
    secret.write_bytes(b"secret")
    subprocess.run([home.programs / "pg_dump", "-Fd", "-Z0", "-f", folder, home.url], check=True)
    contents = folder / "toc.dat"
    (rows,) = folder.glob("[0-9]*.dat")
    if way == "a link":
        rows.rename(tmp_path / "moved")
        rows.symlink_to(tmp_path / "moved")
    elif way == "its objects":
        (folder / "blobs.toc").write_bytes(b"77 ../secret\n")
    else:
        old, new = ((len(one).to_bytes(4, "little") + one) for one in (rows.name.encode(), b"../moved"))
        contents.write_bytes(contents.read_bytes().replace(old, new))
    program = find("pg_restore", 0, tools=home.programs)
    with pytest.raises(UnsafeArchive, match="not its own"):
        examine_dump(folder, program, foreign=False)


@pytest.mark.parametrize("kind", ["c", "d", "t"])
def test_every_statement_of_a_whole_library_is_read(
    server: EmbeddedPostgres, new_database: Callable[..., str], everything: str, tmp_path: Path, kind: str
) -> None:
    url, dump = new_database(server, everything), tmp_path / "dump"
    ask(url, f'ALTER DATABASE "{url.rpartition("/")[2]}" IS_TEMPLATE true')  # dropped by an UPDATE of pg_database
    subprocess.run([server.programs / "pg_dump", f"-F{kind}", "-f", dump, url], check=True)
    entries = read_toc(dump)
    assert {b"COPY public.all_types"} <= {entry.copy[:21] for entry in entries} and len(entries) >= 50
    examine_dump(dump, find("pg_restore", 0, tools=server.programs), foreign=True)
    ask(url, f'ALTER DATABASE "{url.rpartition("/")[2]}" IS_TEMPLATE false')


@pytest.mark.parametrize("form", ["in a function", "to a program", "command"])
@pytest.mark.parametrize("kind", ["p", "c"])
def test_an_archive_of_our_own_form(
    home: Home, canary: Path, monkeypatch: pytest.MonkeyPatch, form: str, kind: str
) -> None:
    """Its own hashes match, but do not prove who wrote it: it is neither adopted nor restored."""
    if kind == "c" and form == "command":
        pytest.skip("psql reads no dump in the custom format")
    attack = (COMMANDS | STATEMENTS)[form]
    file = home.script(attack, canary) if kind == "p" else home.forged(attack, canary)
    there = home.settings(f"there-{form}-{kind}")
    with monkeypatch.context() as forging:
        forging.setattr(adoption, "examine_script", lambda *_, **__: None)
        forging.setattr(adoption, "examine_dump", lambda *_, **__: None)
        forged = adopt(there, file).backup
    elsewhere = home.settings(f"elsewhere-{form}-{kind}")
    (archive,) = (home.folder / f"there-{form}-{kind}" / "backups" / "books").glob("db_*.tar.gz")
    with pytest.raises(UnsafeArchive):
        adopt(elsewhere, archive)
    assert not Catalog(elsewhere).backups()
    with pytest.raises(UnsafeArchive):
        restore(there, RestoreRequest(reference=forged.id, safety=False))
    proof = drill(there, DrillRequest(reference=forged.id)).proof
    assert not proof.proven and "the SQL" in str(proof.differences)
    assert not canary.exists()
    assert ask(home.url, "SELECT count(*) FROM items") == [(9,)]
