"""The folder that the application uses is the one that is saved; otherwise there is an error."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import kuzu
import pytest
from restore_setup import in_place, supply_of, take

from scriptorium import workspace
from scriptorium.catalog import Catalog
from scriptorium.errors import SettingsError
from scriptorium.operations.drill import drill
from scriptorium.operations.restore import restore
from scriptorium.presets.compose_files import compose
from scriptorium.presets.surroundings import env_file
from scriptorium.requests import DrillRequest, RestoreRequest
from scriptorium.restore import undo
from scriptorium.settings import Settings, load
from scriptorium.sources import KuzuSource


class Library:
    """An installation of Bibliotheca, its settings, and a store."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        (self.home / "data" / "covers").mkdir(parents=True)
        (self.home / "data" / "covers" / "a.jpg").write_bytes(b"a cover")

    def settings(self, more: str = "", **variables: str) -> Settings:
        file = self.folder / "scriptorium.toml"
        file.write_text(
            f'[libraries.b]\npreset = "bibliotheca"\nhome = "{self.home}"\n{more}\n'
            f'[stores.local]\nkind = "local"\npath = "{self.folder}/store"\n'
        )
        return load(file, variables)

    def database(self, **how: str) -> Path:
        (source,) = (one for one in self.settings(**how).library().sources if isinstance(one, KuzuSource))
        return source.path

    def doubts(self, more: str = "", **variables: str) -> str:
        return "; ".join(self.settings(more, **variables).library().doubts)


def make(folder: Path, title: str = "a book") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    database = kuzu.Database(str(folder / "bibliotheca.db"), buffer_pool_size=64 << 20)
    connection = kuzu.Connection(database)
    connection.execute("CREATE NODE TABLE Book(id STRING, title STRING, PRIMARY KEY(id))")
    connection.execute("CREATE (:Book {id: '1', title: $title})", {"title": title})
    connection.close()
    database.close()
    return folder / "bibliotheca.db"


def title(path: Path) -> str:
    database = kuzu.Database(str(path), buffer_pool_size=64 << 20, read_only=True)
    answer = kuzu.Connection(database).execute("MATCH (b:Book) RETURN b.title")
    assert isinstance(answer, kuzu.QueryResult)
    return str(answer.get_next()[0])


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter: the folder of pytest is closed to others."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize("linked", ["kuzu", "data", "home"])
def test_a_folder_above_the_database_that_is_a_link(library: Library, tmp_path: Path, linked: str) -> None:
    """It lies on another disk: saved, drilled, restored in place and undone with the link kept, and rescued."""
    make(library.home / "data" / "kuzu")
    link = {"kuzu": library.home / "data" / "kuzu", "data": library.home / "data", "home": library.home}[linked]
    (tmp_path / "disk").mkdir()
    shutil.move(link, tmp_path / "disk" / "moved")
    link.symlink_to(tmp_path / "disk" / "moved")
    database = library.home / "data" / "kuzu" / "bibliotheca.db"
    settings = library.settings()
    backup = take(settings)
    assert drill(settings, DrillRequest(reference=backup)).proof.proven
    database.unlink()
    make(database.parent, "a later book")
    in_place(settings, supply_of(settings))
    assert link.is_symlink() and title(database) == "a book"
    with workspace.lock(settings, "b", "undo"):
        undo(settings, settings.library())
    assert link.is_symlink() and title(database) == "a later book"
    into = tmp_path / "elsewhere"
    restore(settings, RestoreRequest(reference=backup, path=into))
    assert title(into / "data" / "kuzu" / "bibliotheca.db") == "a book"
    assert (into / "data" / "covers" / "a.jpg").read_bytes() == b"a cover"


def test_a_backup_of_before_the_move_to_another_disk_leaves_the_link(library: Library, tmp_path: Path) -> None:
    database = make(library.home / "data" / "kuzu")
    (database.parent / ".clean_shutdown").touch()
    take(library.settings())
    shutil.move(database.parent, tmp_path / "disk")
    database.parent.symlink_to(tmp_path / "disk")
    in_place(library.settings(), supply_of(library.settings()))
    assert database.parent.is_symlink() and title(database) == "a book"


@pytest.mark.parametrize(
    ("written", "folder"),
    [
        ("KUZU_DB_PATH={tmp}/disk/kuzu", "disk/kuzu"),
        ('export KUZU_DB_PATH="{tmp}/disk/kuzu"  # moved', "disk/kuzu"),
        ("KUZU_DB_PATH = '{tmp}/disk/kuzu'", "disk/kuzu"),
        ("DISK={tmp}/disk\nKUZU_DB_PATH=${DISK}/kuzu", "disk/kuzu"),
        ("KUZU_DB_PATH=./graph", "home/graph"),
        ("KUZU_DB_PATH=data/graph", "home/data/graph"),
        ("KUZU_DB_PATH=/app/data/kuzu", "home/data/kuzu"),
        ("KUZU_DB_PATH=/app/graph", "home/graph"),
        ("#KUZU_DB_PATH={tmp}/disk/kuzu", "home/data/kuzu"),
        ("KUZU_DB_PATH=", "home/data/kuzu"),
        ('NOTE="several\nKUZU_DB_PATH=/other\nlines"\nKUZU_DB_PATH={tmp}/disk/kuzu', "disk/kuzu"),
        ("DISK={tmp}/disk\nKUZU_DB_PATH='${DISK}/kuzu'", "disk/kuzu"),
    ],
)
def test_the_place_that_the_env_file_names(library: Library, tmp_path: Path, written: str, folder: str) -> None:
    make(library.home / "data" / "kuzu", "stale")
    expected = tmp_path / folder
    if not expected.exists():
        make(expected, "living")
    (library.home / ".env").write_text(f"SECRET_KEY=1\n{written.replace('{tmp}', str(tmp_path))}\n")
    assert library.database().samefile(expected / "bibliotheca.db") and not library.doubts()


def test_a_stale_database_at_the_usual_place_is_neither_saved_nor_replaced(library: Library, tmp_path: Path) -> None:
    stale, living = make(library.home / "data" / "kuzu", "stale"), make(tmp_path / "disk", "living")
    (library.home / "data" / ".env").write_text(f"KUZU_DB_PATH={tmp_path}/disk")
    settings = library.settings()
    backup = take(settings)
    into = tmp_path / "elsewhere"
    restore(settings, RestoreRequest(reference=backup, path=into))
    assert title(into / "data" / "kuzu" / "bibliotheca.db") == "living"
    living.unlink()
    in_place(settings, supply_of(settings))
    assert (title(living), title(stale)) == ("living", "stale")


def test_a_compose_file_names_the_folder_on_this_machine(library: Library, tmp_path: Path) -> None:
    make(tmp_path / "disk" / "graph", "living")
    (library.home / "docker-compose.yml").write_text(
        "services:\n  app:\n    volumes:\n      - ./data:/app/data\n"
        f'      - "{tmp_path}/disk:/mnt/far:rw"  # the big disk\n'
        '    environment:\n      - "KUZU_DB_PATH=/mnt/far/graph"\n'
    )
    assert library.database() == tmp_path / "disk" / "graph" / "bibliotheca.db" and not library.doubts()
    found = compose(library.home, {})
    assert found.on_host("/app/data/kuzu") == library.home / "data" / "kuzu" and found.on_host("/var") is None


FLOW = "services: {app: {environment: {KUZU_DB_PATH: /mnt/far/graph}, volumes: ['{tmp}/disk:/mnt/far']}}"
LONG = (
    "services:\n  app:\n    environment:\n      KUZU_DB_PATH: ${INSIDE:-/mnt/far}/graph\n    volumes:\n"
    "      - type: bind\n        source: ${DISK}\n        target: /mnt/far\n      - other:/data\nvolumes:\n  other:\n"
)
ENV_FILE = "services:\n  app:\n    env_file: [{path: app.env}]\n    volumes: ['./missing:/app/data']\n"
TWO = (
    "x-mounts: &mounts ['{tmp}/disk:/mnt/far']\nservices:\n"
    "  cache: {environment: [A=1], volumes: ['./cache:/mnt/far']}\n"
    "  app: {environment: [KUZU_DB_PATH=/mnt/far/graph], volumes: *mounts}\n"
)
OVERRIDDEN = "services: {app: {environment: {KUZU_DB_PATH: /mnt/near}, volumes: ['{tmp}/disk:/mnt/far']}}"


@pytest.mark.parametrize(
    ("name", "text", "override"),
    [
        ("compose.yml", FLOW, ""),
        ("docker-compose.yaml", LONG, ""),
        ("docker-compose.yml", ENV_FILE, ""),
        ("compose.yaml", TWO, ""),
        ("compose.yaml", OVERRIDDEN, "services: {app: {environment: [KUZU_DB_PATH=/mnt/far/graph]}}"),
    ],
)
def test_forms_of_a_compose_file(library: Library, tmp_path: Path, name: str, text: str, override: str) -> None:
    make(tmp_path / "disk" / "graph", "living")
    (library.home / name).write_text(text.replace("{tmp}", str(tmp_path)))
    (library.home / "app.env").write_text(f"KUZU_DB_PATH={tmp_path}/disk/graph\n")
    (library.home / ".env").write_text(f"DISK={tmp_path}/disk\n")
    if override:
        (library.home / "compose.override.yaml").write_text(override)
    assert library.database() == tmp_path / "disk" / "graph" / "bibliotheca.db" and not library.doubts()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (".env", "KUZU_DB_PATH=${HOME}/kuzu"),
        (".env", "DATA_DIR='${WHERE}/data'"),
        ("compose.yaml", "services: {app: {environment: [KUZU_DB_PATH=$WHERE/kuzu]}}"),
    ],
)
def test_a_place_that_hangs_on_the_applications_environment_is_an_error(library: Library, file: str, text: str) -> None:
    usual = make(library.home / "data" / "kuzu")
    (library.home / file).write_text(text)
    assert "a variable without a value" in library.doubts()
    given = f'database_file = "{usual}"\ndata = "{library.home}/data"'
    assert not library.doubts(given)


def test_surroundings_that_cannot_be_read_are_reported(library: Library) -> None:
    make(library.home / "data" / "kuzu")
    (library.home / "compose.yaml").write_text("services: [\n")
    settings = library.settings()
    take(settings)
    backup = Catalog(settings).find("latest")
    warnings = Catalog(settings).manifest(backup.copies[0]).warnings
    assert any("compose.yaml cannot be read" in line and "another place" in line for line in warnings)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_env_file_of_another_user_is_reported(open_folder: Path) -> None:
    library = Library(open_folder)
    make(library.home / "data" / "kuzu")
    (library.home / ".env").write_text("KUZU_DB_PATH=/elsewhere\n")
    (library.home / ".env").chmod(0o600)
    library.settings()  # the file of the settings is made by root
    os.seteuid(65534)
    try:
        settings = load(library.folder / "scriptorium.toml", {})
        (source,) = (one for one in settings.library().sources if isinstance(one, KuzuSource))
    finally:
        os.seteuid(0)
    assert ".env cannot be read (Permission denied)" in source.remarks[0]


def test_two_living_places_are_an_error_before_anything_is_done(library: Library, tmp_path: Path) -> None:
    usual, other = make(library.home / "data" / "kuzu"), make(tmp_path / "disk")
    backup = take(library.settings())
    (library.home / ".env").write_text(f"KUZU_DB_PATH={other.parent}\n")
    settings = library.settings(f'database_file = "{usual}"')
    with pytest.raises(SettingsError, match="both are there"):
        take(settings)
    with pytest.raises(SettingsError, match=r"home/\.env means"):
        in_place(settings, supply_of(settings, backup))
    restore(settings, RestoreRequest(reference=backup, path=tmp_path / "elsewhere"))  # nothing living is touched
    assert "both are there" in library.doubts(KUZU_DB_PATH=str(usual.parent))
    assert not library.doubts(f'database_file = "{other}"')


def test_a_place_of_another_machine_is_an_error(library: Library, tmp_path: Path) -> None:
    make(library.home / "data" / "kuzu")
    (library.home / ".env").write_text("KUZU_DB_PATH=/volumes/graph/kuzu\n")
    assert "no such folder" in library.doubts()
    assert not library.doubts(f'database_file = "{library.home}/data/kuzu/bibliotheca.db"')


def test_the_data_folder_that_the_application_is_given(library: Library, tmp_path: Path) -> None:
    make(tmp_path / "far" / "kuzu")
    (library.home / ".env").write_text(f"DATA_DIR={tmp_path}/far\n")
    assert library.database() == tmp_path / "far" / "kuzu" / "bibliotheca.db"
    assert f"names {tmp_path}/far" in library.doubts(f'data = "{library.home}/data"')
    make(library.home / "data" / "kuzu")
    assert "both are there" in library.doubts()


def test_the_values_of_an_env_file(tmp_path: Path) -> None:
    lines = [
        "\ufeffA=1 # one",
        "export B = 'two $A'",
        "# C=3",
        r'D="x ${A} \" y" # z',
        "E=${B:-no}${F:-yes}",
        "nonsense",
    ]
    (tmp_path / ".env").write_bytes("\r\n".join(lines).encode())
    assert env_file(tmp_path / ".env") == {"A": "1", "B": "two $A", "D": 'x 1 " y', "E": "two $Ayes"}
    assert env_file(tmp_path / "none") == {}
    (tmp_path / ".env").write_bytes(b"\xff=1")
    assert env_file(tmp_path / ".env") == {}


@pytest.mark.parametrize(
    ("env", "setting", "says"),
    [
        ("ALEXANDRIA_DB_NAME=books", 'database = "postgresql://u@h/books"', ""),
        ("ALEXANDRIA_DB_NAME=books", 'database = "postgresql://u@h/old"', "'old'"),
        ("export ALEXANDRIA_DB_NAME='books'", "database = \"host=h dbname='ol d'\"", "'ol d'"),
        ("ALEXANDRIA_DB_HOST=postgres", 'database = "postgresql://u@localhost/books"', ""),
        ("ALEXANDRIA_LIBRARY_ROOT={tmp}/here", 'files = "{tmp}/there"', "ALEXANDRIA_LIBRARY_ROOT"),
        ("ALEXANDRIA_LIBRARY_ROOT=../here", 'files = "{tmp}/here"', ""),
        ("ALEXANDRIA_LIBRARY_ROOT=/library-of-a-container", 'files = "{tmp}/there"', ""),
    ],
)
def test_alexandrias_settings_against_its_own(tmp_path: Path, env: str, setting: str, says: str) -> None:
    for name in ("home", "here", "there"):
        (tmp_path / name).mkdir()
    (tmp_path / "home" / ".env").write_text(env.replace("{tmp}", str(tmp_path)))
    text = f'[libraries.a]\npreset = "alexandria"\nhome = "home"\n{setting.replace("{tmp}", str(tmp_path))}\n'
    (tmp_path / "scriptorium.toml").write_text(text)
    doubts = "; ".join(load(tmp_path / "scriptorium.toml", {}).library().doubts)
    assert says in doubts and bool(doubts) == bool(says)
    assert os.environ.get("ALEXANDRIA_DB_NAME") is None


def test_a_line_that_is_not_utf_8_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"SITE_NAME=B\xfccher\nKUZU_DB_PATH=/elsewhere\n")
    assert env_file(tmp_path / ".env")["KUZU_DB_PATH"] == "/elsewhere"
