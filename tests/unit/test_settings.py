"""Settings: where they are looked for, what overrides what, and what is said when they are wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from scriptorium.errors import NotFound, SettingsError
from scriptorium.model import BackupType, Compression, Role, Tier
from scriptorium.presets import PRESETS
from scriptorium.retention import Policy
from scriptorium.settings import CONFIG_VARIABLE, Library, Settings, choose_file, current, find_file, load
from scriptorium.sources import FilesSource, KuzuSource

EXAMPLE = Path(__file__).parents[2] / "scriptorium.example.toml"
SMALL = '[libraries.other]\nsources = [{ name = "up", kind = "files", path = "/srv/up" }]\n'

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        file = tmp_path / "scriptorium.toml"
        file.write_text(text, "utf-8")
        return file

    return write


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A process without any settings: an empty working directory and user's configuration folder."""
    for name in tuple(os.environ):
        if name.startswith(("SCRIPTORIUM", "BIBLIOTHECA_", "ALEXANDRIA_", "KUZU_DB_PATH")):
            monkeypatch.delenv(name)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    yield here


def raised(call: Callable[[], object]) -> str:
    with pytest.raises(SettingsError) as caught:
        call()
    assert caught.value.exit_code == 2
    return f"{caught.value} | {caught.value.hint}"


def complaint(write: Write, text: str, **variables: str) -> str:
    return raised(lambda: load(write(text), variables))


# --- where they are looked for ----------------------------------------------------------------------------------------


def test_the_file_is_looked_for_in_this_order(alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given_file, named, here = tmp_path / "given.toml", tmp_path / "named.toml", alone / "scriptorium.toml"
    user = tmp_path / "user" / "scriptorium" / "scriptorium.toml"
    user.parent.mkdir(parents=True)
    for file in (given_file, named, here, user):
        file.write_text(SMALL)
    monkeypatch.setenv(CONFIG_VARIABLE, str(named))
    assert find_file(given_file) == given_file
    assert find_file() == named
    monkeypatch.setenv(CONFIG_VARIABLE, "")
    assert find_file() == here
    here.unlink()
    assert find_file() == user
    user.unlink()
    machine = Path("/etc/scriptorium/scriptorium.toml")
    assert find_file() == (machine if machine.exists() else None)


def test_without_a_variable_the_user_s_folder_is_below_home(
    alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    file = tmp_path / "home" / ".config" / "scriptorium" / "scriptorium.toml"
    file.parent.mkdir(parents=True)
    file.write_text(SMALL)
    assert find_file() == file


def test_a_named_file_must_be_there(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (alone / "scriptorium.toml").write_text(SMALL)
    for name in ("/nowhere/x.toml", str(alone), "/" + "x" * 300):
        assert "does not exist" in raised(lambda name=name: find_file(Path(name)))
        assert "does not exist" in raised(lambda name=name: choose_file(Path(name)))
        monkeypatch.setenv(CONFIG_VARIABLE, name)
        assert "does not exist" in raised(find_file)


def test_a_place_that_cannot_be_looked_into_has_no_file(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/" + "x" * 300)
    assert find_file() in (None, Path("/etc/scriptorium/scriptorium.toml"))


def test_a_user_without_a_home_has_settings_all_the_same(tmp_path: Path) -> None:
    """A container that is run with a number for a user: no HOME, no entry in /etc/passwd."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv to become a nameless user")
    source = Path(__file__).parents[2]
    here = Path(tempfile.mkdtemp())
    here.chmod(0o755)
    (here / "scriptorium.toml").write_text(SMALL)
    (here / "scriptorium.toml").chmod(0o644)
    script = "from scriptorium.settings import current; print(current().workroom)"
    child = subprocess.run(
        ["setpriv", "--reuid", "54321", "--clear-groups", sys.executable, "-c", script],
        cwd=here,
        env={"PYTHONPATH": str(source), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    shutil.rmtree(here)
    if "ermission" in child.stderr and "current" not in child.stderr:
        pytest.skip("another user cannot read this checkout")
    assert child.returncode == 0, child.stderr


def test_current_sees_a_changed_file_and_a_changed_variable(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = alone / "scriptorium.toml"
    file.write_text(SMALL)
    assert current().email == ""
    assert current() is current()
    monkeypatch.setenv("SCRIPTORIUM__EMAIL", "me@example")
    assert current().email == "me@example"
    monkeypatch.delenv("SCRIPTORIUM__EMAIL")
    file.write_text('email = "you@example"\n' + SMALL)
    os.utime(file, ns=(1, 1))
    assert current().email == "you@example"


def test_an_application_is_recognised_where_there_is_no_file(alone: Path) -> None:
    assert "no application is recognised" in raised(lambda: load(None, {}))
    (alone / "data" / "kuzu").mkdir(parents=True)
    found = load(None, {})
    assert found.library().preset == "bibliotheca" and found.library().home == alone
    assert found.store("local").location("x") == str(alone / "data" / "backups" / "x")
    assert str(alone) in found.origin
    (alone / "scriptorium.toml").write_text(SMALL)
    assert list(current().libraries) == ["other"]


def test_variables_alone_can_be_a_configuration(alone: Path) -> None:
    found = load(
        None,
        {
            "SCRIPTORIUM__LIBRARIES__BOOKS__PRESET": "bibliotheca",
            "SCRIPTORIUM__LIBRARIES__BOOKS__HOME": "/srv/books",
            "SCRIPTORIUM__STORES__DISK__KIND": "local",
            "SCRIPTORIUM__STORES__DISK__PATH": "/mnt/disk",
        },
    )
    assert found.library().home == Path("/srv/books")
    assert found.store("disk").location("x") == "/mnt/disk/x"


# --- what overrides what ----------------------------------------------------------------------------------------------


def test_a_variable_overrides_any_key(write: Write) -> None:
    file = write(
        'compression = "gzip"\n[libraries.My-Books]\npreset = "bibliotheca"\nhome = "/srv/a"\n'
        '[stores.disk]\nkind = "local"\npath = "/mnt/a"\n'
        '[tiers.daily]\ncron = "1 1 * * *"\nto = ["disk"]\n[keep]\ndaily = 3\n'
    )
    found = load(
        file,
        {
            "SCRIPTORIUM__COMPRESSION": "zstd",
            "SCRIPTORIUM__SPACE_FACTOR": "0.5",
            "SCRIPTORIUM__ENABLED": "false",
            "SCRIPTORIUM__LIBRARIES__MY_BOOKS__HOME": "/srv/b",
            "SCRIPTORIUM__LIBRARIES__MY_BOOKS__EXCLUDE": '["*.iso"]',
            "SCRIPTORIUM__STORES__DISK__PATH": "/mnt/b",
            "SCRIPTORIUM__STORES__MORE__PATH": "/mnt/c",
            "SCRIPTORIUM__TIERS__DAILY__TO": "disk, more",
            "SCRIPTORIUM__TIERS__WEEKLY__TYPE": "full",
            "SCRIPTORIUM__KEEP__DAILY": "7",
            "SCRIPTORIUM_OTHER": "not one of ours",
            "PATH": "/bin",
        },
    )
    assert found.compression is Compression.ZSTD and found.space_factor == 0.5 and not found.enabled
    assert list(found.libraries) == ["My-Books"] and found.library().home == Path("/srv/b")
    (data,) = (s for s in found.library().sources if s.name == "data")
    assert isinstance(data, FilesSource) and "*.iso" in data.exclude
    assert [store.location("x") for store in found.targets(Tier.DAILY)] == ["/mnt/b/x", "/mnt/c/x"]
    assert found.tiers[Tier.DAILY].cron == "1 1 * * *" and found.keep == Policy(daily=7)


@pytest.mark.parametrize(
    "name, said",
    [
        ("SCRIPTORIUM__COMPRESSION__LEVEL", "not a table"),
        ("SCRIPTORIUM__NO_SUCH_KEY", "no_such_key: unknown key; known: compression"),
        ("SCRIPTORIUM__STORES__DISK__NO", "unknown key; known: kind, path"),
        ("SCRIPTORIUM__", "unknown key"),
        ("SCRIPTORIUM__STORES__DISK", "'stores.disk' is a table"),
    ],
)
def test_a_variable_that_means_nothing_is_an_error(write: Write, name: str, said: str) -> None:
    text = 'compression = "gzip"\n' + SMALL + '[stores.disk]\nkind = "local"\npath = "/mnt"\n'
    assert said in complaint(write, text, **{name: "x"})


def test_the_applications_own_variables_work_where_the_file_says_nothing(write: Write) -> None:
    text = '[libraries.b]\npreset = "bibliotheca"\nhome = "/srv/b"\n'
    plain = load(write(text), {})
    assert plain.store("local").location("x") == "/srv/b/data/backups/x"
    assert (plain.keep.max_age, plain.keep.max_count, plain.enabled, plain.email) == (30, 50, True, "")
    variables = {
        "BIBLIOTHECA_BACKUP_DIR": "/mnt/disk",
        "BIBLIOTHECA_BACKUP_MAX_AGE": "10",
        "BIBLIOTHECA_BACKUP_ENABLED": "false",
        "BIBLIOTHECA_BACKUP_EMAIL": "me@example",
    }
    found = load(write(text), variables)
    assert found.store("local").location("x") == "/mnt/disk/x"
    assert (found.keep.max_age, found.keep.max_count, found.enabled, found.email) == (10, 50, False, "me@example")
    assert load(write(text), {"BIBLIOTHECA_BACKUP_MAX_COUNT": "5"}).keep == Policy(max_age=30, max_count=5)
    relative = load(write(text), {"BIBLIOTHECA_BACKUP_DIR": "./elsewhere"})
    assert relative.store("local").location("x") == "/srv/b/elsewhere/x"
    above = 'enabled = true\nemail = "you@example"\n' + text
    below = '[stores.s]\nkind = "local"\npath = "/mnt/s"\n[keep]\nlast = 2\n'
    file_wins = load(write(above + below), variables)
    assert list(file_wins.stores) == ["s"] and file_wins.keep == Policy(last=2)
    assert file_wins.enabled and file_wins.email == "you@example"
    variable_wins = load(write(above + below), {**variables, "SCRIPTORIUM__EMAIL": "top@example"})
    assert variable_wins.email == "top@example"


def test_an_empty_variable_says_nothing(write: Write) -> None:
    """``BIBLIOTHECA_BACKUP_MAX_AGE=`` in an .env or a compose file."""
    names = ("DIR", "MAX_AGE", "MAX_COUNT", "ENABLED", "EMAIL")
    empty = {f"BIBLIOTHECA_BACKUP_{name}": "" for name in names} | {"KUZU_DB_PATH": ""}
    text = '[libraries.b]\npreset = "bibliotheca"\nhome = "/srv/b"\n'
    assert load(write(text), empty) == load(write(text), {})


def test_a_tilde_is_the_user_s_home(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    text = '[libraries.b]\npreset = "bibliotheca"\nhome = "~/b"\n[stores.s]\nkind = "local"\npath = "~/s"\n'
    found = load(write(text), {})
    assert found.library().home == Path("/home/me/b") and found.store("s").location("x") == "/home/me/s/x"
    by_variable = load(write(text.partition("[stores")[0]), {"BIBLIOTHECA_BACKUP_DIR": "~/v"})
    assert by_variable.store("local").location("x") == "/home/me/v/x"
    assert "home folder" in complaint(write, text.replace("~/s", "~nobody-of-this-name/s"))


# --- paths ------------------------------------------------------------------------------------------------------------


def test_relative_paths_start_at_the_file(alone: Path, write: Write, tmp_path: Path) -> None:
    file = write(
        'workspace = "work"\n'
        '[libraries.b]\npreset = "bibliotheca"\nhome = "b"\ndata = "d"\ndatabase_file = "d/k/books.db"\n'
        'kuzu = { quiesce = { pid_file = "app.pid" } }\n'
        "[libraries.o]\nsources = [\n"
        '  { name = "g", kind = "kuzu", path = "g.db", engine = "old-kuzu" },\n'
        '  { name = "u", kind = "files", path = "../u" },\n'
        ']\n[stores.s]\nkind = "local"\npath = "s"\n'
    )
    found = load(file, {})
    kuzu, data, config = found.library("b").sources
    assert isinstance(kuzu, KuzuSource) and kuzu.path == tmp_path / "d/k/books.db" and kuzu.quiesce is not None
    assert kuzu.place == "data/k/books.db" and kuzu.quiesce.pid_file == tmp_path / "app.pid"
    assert isinstance(data, FilesSource) and data.path == tmp_path / "d"
    assert isinstance(config, FilesSource) and config.path == tmp_path / "b"
    graph, uploads = found.library("o").sources
    assert isinstance(graph, KuzuSource) and (graph.path, graph.engine) == (tmp_path / "g.db", tmp_path / "old-kuzu")
    assert isinstance(uploads, FilesSource) and os.path.realpath(uploads.path) == str(tmp_path.parent / "u")
    assert found.store("s").location("x") == str(tmp_path / "s/x") and found.workroom == tmp_path / "work"


@pytest.mark.parametrize(
    "line",
    [
        "path = 5",
        'path = ["a"]',
        "path = true",
        'path = "a\\u0000b"',
        'path = ""',
        "path = 2026-01-01",
        "path = {}",
    ],
)
def test_what_is_no_path_is_refused(write: Write, line: str) -> None:
    complaint(write, SMALL + f'[stores.s]\nkind = "local"\n{line}\n')
    complaint(write, f'[libraries.o]\nsources = [{{ name = "u", kind = "files", {line} }}]\n')
    complaint(write, f'[libraries.b]\npreset = "bibliotheca"\n{line.replace("path", "home")}\n')
    complaint(write, f"{line.replace('path', 'workspace')}\n{SMALL}")


# --- what is said -----------------------------------------------------------------------------------------------------

WRONG = {
    "not toml": ("[libraries", "not valid TOML"),
    "no library": ('compression = "gzip"\n', "no library is configured"),
    "libraries is no table": ("libraries = 5\n", "'libraries' is a table"),
    "a library is no table": ("[libraries]\nx = 5\n", "'libraries.x' is a table"),
    "stores is no table": (f"stores = 5\n{SMALL}", "'stores' is a table"),
    "neither preset nor sources": ("[libraries.x]\n", "presets: bibliotheca"),
    "preset and sources": ('[libraries.x]\npreset = "bibliotheca"\nsources = []\n', "not both"),
    "unknown preset": ('[libraries.x]\npreset = "none"\n', "known presets: bibliotheca"),
    "preset without home": ('[libraries.x]\npreset = "bibliotheca"\n', "needs 'home'"),
    "preset's unknown key": (
        '[libraries.x]\npreset = "bibliotheca"\nhome = "/a"\nhoem = "/b"\n',
        "unknown key: hoem",
    ),
    "known keys of a preset": (
        '[libraries.x]\npreset = "bibliotheca"\nhome = "/a"\nhoem = "/b"\n',
        "known: data, database_file, exclude, health, home, kuzu",
    ),
    "name of a library": ('[libraries.x]\nname = "y"\npreset = "bibliotheca"\nhome = "/a"\n', "'name' is not a key"),
    "name of a store": (f'{SMALL}[stores.s]\nname = "t"\nkind = "local"\npath = "/a"\n', "'name' is not a key"),
    "unknown key at the top": (f"compresion = 1\n{SMALL}", "compresion: unknown key; known: compression, email"),
    "unknown key of a source": (
        '[libraries.o]\nsources = [{ name = "u", kind = "files", path = "/u", excludes = [] }]\n',
        "excludes: unknown key; known: at, exclude, include, kind, name, path, role: ",
    ),
    "unknown key of a store": (
        f'{SMALL}[stores.s]\nkind = "local"\npath = "/a"\npaht = "/b"\n',
        "paht: unknown key; known: kind, path",
    ),
    "unknown key of a tier": (f"{SMALL}[tiers.daily]\ncorn = 1\n", "corn: unknown key; known: cron, keep, libraries"),
    "unknown rule": (f"{SMALL}[keep]\ndayly = 1\n", "dayly: unknown key; known: daily, good, hourly, last"),
    "unknown rule of a tier": (f"{SMALL}[tiers.daily]\nkeep = {{ dayly = 1 }}\n", "unknown key; known: daily"),
    "unknown key of quiesce": (
        '[libraries.o]\nsources = [{ kind = "kuzu", path = "/g", quiesce = { pid = 5, lmit = 2 } }]\n',
        "lmit: unknown key; known: limit, pause_command",
    ),
    "unknown kind of source": ('[libraries.o]\nsources = [{ kind = "mysql", path = "/g" }]\n', "'kuzu'"),
    "no kind of source": ('[libraries.o]\nsources = [{ path = "/g" }]\n', "'kind' is missing; one of: files, kuzu"),
    "unknown kind of store": (f'{SMALL}[stores.s]\nkind = "ftp"\npath = "/a"\n', "'local'"),
    "unknown tier": (f"{SMALL}[tiers.fortnightly]\n", "'weekly'"),
    "unknown type": (f'{SMALL}[tiers.daily]\ntype = "half"\n', "allowed: full, data, database, config"),
    "unknown compression": (f'compression = "rar"\n{SMALL}', "'zstd'"),
    "tier to an unknown store": (f'{SMALL}[tiers.daily]\nto = ["s9"]\n', "names the store 's9', which is not"),
    "tier of an unknown library": (f'{SMALL}[tiers.daily]\nlibraries = ["x"]\n', "names 'x', which is not"),
    "sources are no list": ("[libraries.o]\nsources = {}\n", "list of tables"),
    "no sources": ("[libraries.o]\nsources = []\n", "at least 1"),
    "a source is no table": ('[libraries.o]\nsources = ["/srv"]\n', "list of tables"),
    "library called all": (SMALL.replace("other", "all"), "'all' means every library"),
    "library with a slash": (SMALL.replace("other", '"a/b"'), "pattern"),
    "library that is hidden": (SMALL.replace("other", '".a"'), "pattern"),
    "store with a slash": (f'{SMALL}[stores."../s"]\nkind = "local"\npath = "/a"\n', "pattern"),
    "space factor": (f"space_factor = 0\n{SMALL}", "greater than 0"),
    "space factor that is none": (f"space_factor = inf\n{SMALL}", "finite"),
    "keep nothing": (f"{SMALL}[keep]\nmax_age = 0\n", "greater than or equal to 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_with_what_is_allowed(write: Write, name: str) -> None:
    text, said = WRONG[name]
    assert said in complaint(write, text)


@pytest.mark.parametrize(
    "first, second, said",
    [
        ('name = "a", path = "/1"', 'name = "a", path = "/2", at = "b"', "same name: a"),
        ('name = "a", path = "/1", at = "x"', 'name = "b", path = "/2", at = "x"', "same path in the archive: x"),
        ('name = "a", path = "/1"', 'name = "b", path = "/2", at = "a"', "same path in the archive: a"),
        ('name = "a", path = "/1", at = ""', 'name = "b", path = "/2", at = ""', "same path in the archive: the top"),
        ('name = "a", path = "/1"', 'name = "exports", path = "/2"', "'exports' is where"),
        ('name = "a", path = "/1"', 'name = "b", path = "/2", at = "exports/b"', "'exports' is where"),
        ('name = "a", path = "/1"', 'name = "../b", path = "/2"', "pattern"),
        ('name = "a", path = "/1"', 'name = "b/c", path = "/2"', "pattern"),
        ('name = "a", path = "/1"', 'name = "b", path = "/2", at = "../b"', "no path in an archive"),
        ('name = "a", path = "/1"', 'name = "b", path = "/2", at = "/b"', "no path in an archive"),
        ('name = "a", path = "/1"', 'name = "b", path = "/2", at = "b/"', "no path in an archive"),
        ('name = "a", path = "/1"', 'name = "b", path = "/2", at = "b//c"', "no path in an archive"),
        ('name = "a", path = "/1"', 'name = "b", path = "/2", at = "./b"', "no path in an archive"),
        ('name = "a", path = "/1"', 'name = "b", path = "/2", at = "manifest.json"', "ours in every archive"),
    ],
)
def test_sources_that_would_meet_in_an_archive_are_refused(write: Write, first: str, second: str, said: str) -> None:
    text = f'[libraries.o]\nsources = [{{ kind = "files", {first} }}, {{ kind = "files", {second} }}]\n'
    assert said in complaint(write, text)


def test_two_stores_are_two_folders_and_none_of_them_is_a_source(write: Write, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    two = '[stores.a]\nkind = "local"\npath = "real"\n[stores.b]\nkind = "local"\npath = "link"\n'
    assert "the stores 'a' and 'b' are the same folder" in complaint(write, SMALL + two)
    same = SMALL.replace("/srv/up", "link") + '[stores.a]\nkind = "local"\npath = "real"\n'
    assert "the source 'up' of other is the store 'a'" in complaint(write, same)
    inside = SMALL.replace("/srv/up", "real") + '[stores.a]\nkind = "local"\npath = "link/backups"\n'
    assert load(write(inside), {}).never == (
        tmp_path / "link/backups/.scriptorium",
        tmp_path / "link/backups",
    )


def test_a_value_is_never_in_the_complaint(write: Write) -> None:
    """It may be a secret."""
    text = SMALL.replace('path = "/srv/up"', 'path = ["hunter2"], password = "hunter2", role = "hunter2"')
    assert "hunter2" not in complaint(write, text)
    assert "hunter2" not in complaint(write, SMALL, SCRIPTORIUM__SPACE_FACTOR="hunter2")


def test_a_file_that_is_no_text_or_cannot_be_read_is_said(tmp_path: Path) -> None:
    file = tmp_path / "scriptorium.toml"
    file.write_bytes(b"\xff\xfe")
    assert "not valid TOML" in raised(lambda: load(file, {}))
    assert "cannot be read" in raised(lambda: load(tmp_path, {}))
    file.write_text("x = " + "[" * 100_000)
    raised(lambda: load(file, {}))


# --- what is asked of them --------------------------------------------------------------------------------------------


def test_a_library_is_found_by_name_or_alone(write: Write) -> None:
    one = load(write(SMALL), {})
    assert one.library().name == one.library("other").name == "other"
    two = load(write(SMALL + SMALL.replace("other", "more")), {})
    with pytest.raises(NotFound) as caught:
        two.library()
    assert "other, more" in caught.value.hint and caught.value.exit_code == 5
    with pytest.raises(NotFound, match="no such library"):
        one.library("nobody")
    with pytest.raises(NotFound) as caught:
        one.store("nobody")
    assert "configured: local" in caught.value.hint


def test_a_tier_says_where_to_and_the_user_overrides_it(write: Write) -> None:
    stores = "".join(f'[stores.{name}]\nkind = "local"\npath = "/mnt/{name}"\n' for name in "abc")
    found = load(write(SMALL + stores + '[tiers.daily]\nto = ["b", "a"]\ntype = "kuzu_only"\n'), {})
    assert [store.name for store in found.targets(Tier.DAILY)] == ["b", "a"]
    assert [store.name for store in found.targets(Tier.WEEKLY)] == ["a", "b", "c"]
    assert [store.name for store in found.targets(Tier.DAILY, ("c", "c"))] == ["c"]
    assert found.tiers[Tier.DAILY].type is BackupType.DATABASE
    with pytest.raises(NotFound):
        found.targets(Tier.DAILY, ("d",))


@pytest.mark.parametrize(
    "type, names",
    [
        (BackupType.FULL, ["kuzu", "data", "config"]),
        (BackupType.DATA, ["kuzu", "data"]),
        (BackupType.DATABASE, ["kuzu"]),
        (BackupType.CONFIG, ["config"]),
    ],
)
def test_a_type_chooses_sources_and_the_database_comes_first(write: Write, type: BackupType, names: list[str]) -> None:
    library = load(write('[libraries.b]\npreset = "bibliotheca"\nhome = "/srv/b"\n'), {}).library()
    assert [source.name for source in library.sources_of(type)] == names


def test_a_type_that_the_library_has_nothing_of_is_said(write: Write) -> None:
    with pytest.raises(NotFound) as caught:
        load(write(SMALL), {}).library().sources_of(BackupType.DATABASE)
    assert "up (files)" in caught.value.hint


def test_a_source_can_be_given_another_role(write: Write) -> None:
    text = SMALL.replace('kind = "files"', 'kind = "files", role = "config"')
    (source,) = load(write(text), {}).library().sources_of(BackupType.CONFIG)
    assert source.role is Role.CONFIG


def test_the_workroom_is_inside_the_first_local_store(write: Write) -> None:
    stores = '[stores.a]\nkind = "local"\npath = "/mnt/a"\n[stores.b]\nkind = "local"\npath = "/mnt/b"\n'
    assert load(write(SMALL + stores), {}).workroom == Path("/mnt/a/.scriptorium")


def test_a_tree_of_files_leaves_a_database_in_it_alone(write: Write) -> None:
    text = (
        '[libraries.o]\nsources = [{ name = "g", kind = "kuzu", path = "/srv/o/g.db" },'
        ' { name = "all", kind = "files", path = "/srv/o" }]\n[stores.s]\nkind = "local"\npath = "/srv/o/backups"\n'
    )
    found = load(write(text), {})
    graph, everything = found.library().sources
    assert set(found.never_of(found.library(), everything)) == {
        Path("/srv/o/backups"),
        Path("/srv/o/backups/.scriptorium"),
        *(Path(f"/srv/o/g.db{ending}") for ending in ("", ".wal", ".shadow", ".tmp")),
    }
    assert found.never_of(found.library(), graph) == found.never


# --- whatever is written ----------------------------------------------------------------------------------------------

KNOWN = (
    "libraries stores tiers keep sources preset bibliotheca home path kind local files kuzu name at include exclude"
    " role quiesce pid daily cron type to workspace space_factor compression data database_file engine patience"
    " max_age origin a ~x ../.. /srv/a ~ all exports"
)
WORDS = st.sampled_from([*KNOWN.split(), "", "\0"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | WORDS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(WORDS, below, max_size=4),
    max_leaves=12,
)
LIBRARY = st.dictionaries(WORDS, VALUES, max_size=4) | st.fixed_dictionaries(
    {
        "sources": st.lists(
            st.fixed_dictionaries({"kind": WORDS, "path": VALUES}, optional={"name": VALUES, "at": VALUES})
        )
    }
)


def toml(value: object) -> str:
    """A value as TOML writes it inline; nothing (``None``) is a date, which JSON does not have."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if value is None:
        return "2026-01-02T03:04:05Z"
    if isinstance(value, float):
        return {"nan": "nan", "inf": "inf", "-inf": "-inf"}.get(str(value), f"{value:.6f}")
    return json.dumps(value)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(WORDS, VALUES, max_size=4),
    st.dictionaries(WORDS, LIBRARY, max_size=2),
    st.dictionaries(WORDS | st.text(max_size=8), st.text(max_size=8) | WORDS, max_size=3),
)
def test_whatever_is_written_is_settings_or_a_settings_error(
    top: dict[str, object], libraries: dict[str, object], variables: dict[str, str]
) -> None:
    text = "".join(f"{json.dumps(key)} = {toml(value)}\n" for key, value in {**top, "libraries": libraries}.items())
    environment = {f"SCRIPTORIUM__{name.upper()}": value for name, value in variables.items()}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scriptorium.toml"
        file.write_text(text.encode("utf-8", "replace").decode(), "utf-8")
        try:
            found = load(file, environment)
        except SettingsError as error:
            assert str(error)
        else:
            assert isinstance(found, Settings) and found.libraries and found.stores


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60) | st.text(alphabet='[]{}="\\\n.a5', max_size=40).map(str.encode))
def test_junk_is_a_settings_error(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scriptorium.toml"
        file.write_bytes(data)
        with pytest.raises(SettingsError):
            load(file, {})


# --- the example ------------------------------------------------------------------------------------------------------


def test_the_example_is_a_configuration() -> None:
    found = load(EXAMPLE, {})
    assert set(found.libraries) >= {"bibliotheca", "other"} and found.store("local").location("x") == "/srv/backups/x"
    plain = load_plain()
    assert (found.keep, found.compression, found.space_factor) == (plain.keep, plain.compression, plain.space_factor)
    assert (found.enabled, found.email, found.workspace) == (plain.enabled, plain.email, plain.workspace)


def load_plain() -> Settings:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scriptorium.toml"
        file.write_text(SMALL)
        return load(file, {})


def models(annotation: object) -> Iterator[type[BaseModel]]:
    """Every model that a settings file can fill."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models(field.annotation)
            for extra in field.metadata:
                yield from models(extra)
    else:
        for part in get_args(annotation):
            yield from models(part)


def test_the_example_mentions_every_setting() -> None:
    """A setting that nobody can find is none: a new field fails here until it stands in the example."""
    text = EXAMPLE.read_text()
    tomllib.loads(text)
    silent = {"origin"}  # ours, for messages
    wanted = {name for model in set(models(Settings)) for name in model.model_fields} - silent
    wanted |= {key for known in PRESETS.values() for key in known.keys}
    missing = {name for name in wanted if not re.search(rf"(?<![A-Za-z_]){re.escape(name)}(?![A-Za-z_])", text)}
    assert not missing
    assert Library in set(models(Settings)) and KuzuSource in set(models(Settings))
