"""Undo of restores of a library with a database on a server, a Kuzu database and files. It reports only those parts as
put back that are; a part that cannot be put back is named before anything is changed."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import kuzu
import pytest
import restore_setup
from killed_process import dying_before, killed
from postgres_items import ask, databases
from survey_counts import counted

from scriptorium.errors import NotFound, RestoreFailed, Untrusted
from scriptorium.operations import restore as restore_operation
from scriptorium.operations.prune import carry_out
from scriptorium.operations.restore import plan_restore
from scriptorium.operations.undo import check_undo, plan_undo, preflight_undo, undo_restore
from scriptorium.requests import RestoreRequest, UndoRequest
from scriptorium.restore import rollback
from scriptorium.settings import Settings, load
from scriptorium.sources import FilesSource, KuzuSource
from scriptorium.sources.postgres.source import PostgresSource


def _write(graph: Path, word: str) -> None:
    with kuzu.Database(str(graph)) as database, kuzu.Connection(database) as connection:
        connection.execute("CREATE NODE TABLE IF NOT EXISTS B (id INT64, t STRING, PRIMARY KEY (id))")
        connection.execute("MERGE (b:B {id: 1}) SET b.t = $t", {"t": word})


@dataclass
class Mixture:
    """``put`` writes a word into every source; ``now`` reads it from each."""

    folder: Path
    url: str
    server: object
    graphs: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def graph(self) -> Path:
        return self.folder / "home" / "kuzu" / "g.db"

    @property
    def file(self) -> Path:
        return self.folder / "home" / "tree" / "f"

    @property
    def settings(self) -> Settings:
        return load(self.folder / "scriptorium.toml", {})

    def put(self, word: str) -> None:
        ask(self.url, f"DROP TABLE IF EXISTS book; CREATE TABLE book (t text); INSERT INTO book VALUES ('{word}')")
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(word)
        self.graph.parent.mkdir(exist_ok=True)
        _write(self.graph, word)
        self.graphs[hashlib.sha256(self.graph.read_bytes()).hexdigest()] = word

    def now(self) -> set[str]:
        digest = hashlib.sha256(self.graph.read_bytes()).hexdigest()
        graph = self.graphs.get(digest, "oldest")  # what came of a backup is not the same bytes
        assert not self.graph.with_name("g.db.wal").exists()
        return {ask(self.url, "SELECT t FROM book")[0][0], self.file.read_text(), graph}

    def restore(self, *, only: tuple[str, ...] = (), clean: bool = False) -> None:
        restore_operation.restore(
            self.settings, RestoreRequest(reference="latest", only=only, clean=clean, safety=False)
        )

    def undo(self) -> None:
        check_undo(self.settings, plan_undo(self.settings, UndoRequest()))
        undo_restore(self.settings, "lib")

    def dry_run(self) -> None:
        preflight_undo(self.settings, plan_undo(self.settings, UndoRequest())).require()

    def previous(self) -> str:
        (name,) = {one for one in databases(self.server, self.name) if "_before_restore_" in one}
        return name

    def journal(self) -> Path:
        (file,) = (self.settings.workspace_folder / "restores").glob("*.json")
        return file


@pytest.fixture
def mixture(server, new_database, tmp_path):
    made = Mixture(tmp_path, new_database(server), server)
    (tmp_path / "scriptorium.toml").write_text(
        f"""[libraries.lib]
sources = [
  {{ name = "db", kind = "postgres", database = "{made.url}", tools = "{server.programs}" }},
  {{ name = "graph", kind = "kuzu", path = "home/kuzu/g.db" }},
  {{ name = "files", kind = "files", path = "home/tree" }},
]
[stores.local]
kind = "local"
path = "backups"
"""
    )
    made.put("oldest")
    restore_setup.take(made.settings)
    return made


@pytest.mark.parametrize("clean", [False, True])
def test_after_several_restores_the_last_one_is_undone(mixture, clean):
    for word in ("changed1", "changed2", "changed3"):
        mixture.put(word)
        mixture.restore(clean=clean)
        assert mixture.now() == {"oldest"}
    mixture.dry_run()
    mixture.undo()
    assert mixture.now() == {"changed3"}
    with pytest.raises(NotFound):
        mixture.undo()
    mixture.restore(clean=not clean)
    assert mixture.now() == {"oldest"}
    restore_setup.take(mixture.settings)
    carry_out(mixture.settings, "lib", ())
    mixture.undo()
    assert mixture.now() == {"changed3"}


def test_a_source_of_every_kind_is_surveyed_once_for_a_backup_and_twice_for_a_restore_in_place(mixture, monkeypatch):
    """The second survey is the safety backup's: the living data may have grown since the plan."""
    surveys = counted(monkeypatch, FilesSource, KuzuSource, PostgresSource)
    restore_setup.take(mixture.settings)
    assert sorted(surveys) == ["db", "files", "graph"]
    surveys.clear()
    done = restore_operation.restore(mixture.settings, RestoreRequest(reference="latest"))
    assert done.safety is not None
    assert sorted(surveys) == ["db", "db", "files", "files", "graph", "graph"]


def _drop(mixture: Mixture) -> None:
    ask(mixture.server.address(), f"DROP DATABASE {mixture.previous()}")


def _rename(mixture: Mixture) -> None:
    ask(mixture.server.address(), f"ALTER DATABASE {mixture.previous()} RENAME TO {mixture.name}_mine")


def _take_away(mixture: Mixture, source: str) -> None:
    (folder,) = (mixture.folder / "home").glob(f".scriptorium-restore-*-{source}")
    folder.rename(mixture.folder / source)


def _another_server(mixture: Mixture) -> None:
    file = mixture.journal()
    fields = json.loads(file.read_text())
    fields["previous"]["db"]["system"] = "1234"
    file.write_text(json.dumps(fields))


BY_HAND: dict[str, tuple[Callable[[Mixture], None], str]] = {
    "the database is dropped": (_drop, "db: the database .* was dropped"),
    "the database is renamed": (_rename, "db: .* was renamed"),
    "another server": (_another_server, "db: another server"),
    "the graph is gone": (lambda mixture: _take_away(mixture, "graph"), "graph: not what was put aside"),
    "the files are gone": (lambda mixture: _take_away(mixture, "files"), "files: not what was put aside"),
}


@pytest.mark.parametrize("case", BY_HAND)
def test_what_is_gone_is_named_and_nothing_is_changed(mixture, case):
    mixture.put("changed1")
    mixture.restore()
    change, words = BY_HAND[case]
    change(mixture)
    for attempt in (mixture.dry_run, mixture.undo):
        with pytest.raises(RestoreFailed, match=words):
            attempt()
    assert mixture.now() == {"oldest"}
    assert json.loads(mixture.journal().read_text())["state"] == "kept"


def test_the_undo_of_one_part_changes_no_other(mixture):
    mixture.put("changed1")
    mixture.restore(only=("files",))
    mixture.put("changed2")
    mixture.file.write_text("changed3")
    mixture.undo()
    assert mixture.now() == {"changed1", "changed2"} and mixture.file.read_text() == "changed1"


@pytest.mark.parametrize(
    ("part", "clean"),
    [
        (2, False),
        (3, True),
        *(pytest.param(*row, marks=pytest.mark.slow) for row in ((1, False), (1, True), (2, True), (3, False))),
    ],
)
def test_an_undo_that_is_killed_is_completed(mixture, clean, part):
    mixture.put("changed1")
    mixture.restore(clean=clean)
    assert killed(mixture.undo, dying_before(rollback, "_not_back", part))
    assert plan_undo(mixture.settings, UndoRequest()).cut_short
    undo_restore(mixture.settings, "lib")
    assert mixture.now() == {"changed1"}


def test_previous_data_that_expired_is_not_put_back(mixture):
    mixture.put("changed1")
    mixture.restore()
    long_ago = time.time() - 30 * 86400
    os.utime(mixture.journal(), (long_ago, long_ago))
    carry_out(mixture.settings, "lib", ())
    with pytest.raises(NotFound, match="no previous data"):
        mixture.undo()
    assert mixture.now() == {"oldest"}


def test_settings_that_name_another_database_do_not_mislead_it(mixture, server):
    mixture.put("changed1")
    mixture.restore()
    file = mixture.folder / "scriptorium.toml"
    file.write_text(
        file.read_text().replace(mixture.url, server.address("another")).replace("home/tree", "home/nowhere")
    )
    mixture.undo()
    assert mixture.now() == {"changed1"}


def test_a_password_that_the_restore_changed_is_read_again(server, new_database, tmp_path):
    """The restored ``.env`` has an old password; the living one has the right one."""
    url = new_database(server)
    name = url.rpartition("/")[2]
    home = tmp_path / "home"
    (home / "library").mkdir(parents=True)
    (tmp_path / "scriptorium.toml").write_text(
        f"""[libraries.lib]
preset = "alexandria"
home = "home"
postgres = {{ tools = "{server.programs}", statements = {{}} }}
[stores.local]
kind = "local"
path = "backups"
"""
    )
    role = f"role_of_{name}"
    ask(url, f"CREATE ROLE {role} LOGIN SUPERUSER")
    ask(url, "CREATE TABLE book (t text); INSERT INTO book VALUES ('oldest')")

    def password(word: str) -> None:
        ask(url, f"ALTER ROLE {role} PASSWORD '{word}'")
        words = {"HOST": "127.0.0.1", "PORT": server.port, "NAME": name, "USER": role, "PASSWORD": word}
        (home / ".env").write_text("".join(f"ALEXANDRIA_DB_{key}={value}\n" for key, value in words.items()))

    settings = lambda: load(tmp_path / "scriptorium.toml", {})  # noqa: E731
    password("first")
    restore_setup.take(settings())
    password("second")
    ask(url, "UPDATE book SET t = 'changed1'")
    plan = plan_restore(settings(), RestoreRequest(reference="latest", safety=False))
    assert any(row.what == ".env" and "another database" in row.found for row in plan.preflight.rows)
    restore_operation.restore(settings(), RestoreRequest(reference="latest", safety=False))
    assert "first" in (home / ".env").read_text() and ask(url, "SELECT t FROM book") == [("oldest",)]
    check_undo(settings(), plan_undo(settings(), UndoRequest()))
    undo_restore(settings(), "lib")
    assert "second" in (home / ".env").read_text() and ask(url, "SELECT t FROM book") == [("changed1",)]


def test_a_journal_that_others_may_have_written_is_not_carried_out(mixture):
    mixture.put("changed1")
    mixture.restore()
    mixture.journal().parent.chmod(0o777)
    with pytest.raises(Untrusted, match="others may write"):
        mixture.undo()
    mixture.journal().parent.chmod(0o700)
    if os.geteuid() == 0:
        os.chown(mixture.journal(), 1234, 1234)
        with pytest.raises(Untrusted, match="user 1234"):
            mixture.undo()
    assert mixture.now() == {"oldest"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user here")
def test_previous_data_that_another_user_planted_is_not_put_back(mixture):
    mixture.put("changed1")
    mixture.restore()
    (folder,) = (mixture.folder / "home").glob(".scriptorium-restore-*-files")
    plan = json.loads((folder / "moves.json").read_text())
    folder.rename(mixture.folder / "away")
    (folder / "former").mkdir(parents=True)
    (folder / "moves.json").write_text(json.dumps(plan))
    for path in (folder, folder / "former", folder / "moves.json"):
        os.chown(path, 1234, 1234)
    with pytest.raises(RestoreFailed, match="user 1234"):
        mixture.undo()
    assert mixture.now() == {"oldest"}
