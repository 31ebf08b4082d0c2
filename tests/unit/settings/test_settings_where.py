"""Settings: where they are looked for, and their precedence."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from settings_texts import SMALL, Write, complaint, raised

from scriptorium.errors import SettingsError
from scriptorium.retention import Policy
from scriptorium.settings import CONFIG_VARIABLE, choose_file, current, find_file, load
from scriptorium.sources import FilesSource
from scriptorium.words import Compression, Tier

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
    os.mkfifo(alone / "pipe")
    for name, message in (
        ("/nowhere/x.toml", "does not exist"),
        (f"{alone}/scriptorium.toml/x", "does not exist"),
        (str(alone), "is a folder"),
        (str(alone / "pipe"), "is not a regular file"),
        ("/" + "x" * 300, "name is too long"),
        ("a\0b", "cannot have this name"),
    ):
        assert message in raised(lambda name=name: find_file(Path(name)))
        assert message in raised(lambda name=name: choose_file(Path(name)))
        if "\0" not in name:
            monkeypatch.setenv(CONFIG_VARIABLE, name)
            assert message in raised(find_file)


def test_a_place_that_cannot_be_looked_into_has_no_file(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/" + "x" * 300)
    assert find_file() in (None, Path("/etc/scriptorium/scriptorium.toml"))


def test_a_user_without_a_home_has_settings_anyway(tmp_path: Path) -> None:
    """A container that is run with a number for a user: no HOME, no entry in /etc/passwd."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv to become a nameless user")
    source = Path(__file__).parents[3]
    here = Path(tempfile.mkdtemp())
    here.chmod(0o755)
    (here / "scriptorium.toml").write_text(SMALL)
    (here / "scriptorium.toml").chmod(0o644)
    script = "from scriptorium.settings import current; print(current().workspace_folder)"
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
    "name, message",
    [
        ("SCRIPTORIUM__COMPRESSION__LEVEL", "not a table"),
        ("SCRIPTORIUM__NO_SUCH_KEY", "no_such_key: unknown key; known: compression"),
        ("SCRIPTORIUM__STORES__DISK__NO", "unknown key; known: age, kind, path"),
        ("SCRIPTORIUM__", "unknown key"),
        ("SCRIPTORIUM__STORES__DISK", "'stores.disk' is a table"),
    ],
)
def test_a_variable_that_means_nothing_is_an_error(write: Write, name: str, message: str) -> None:
    text = 'compression = "gzip"\n' + SMALL + '[stores.disk]\nkind = "local"\npath = "/mnt"\n'
    assert message in complaint(write, text, **{name: "x"})


def test_the_applications_own_variables_apply_if_the_file_is_silent(write: Write) -> None:
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


def test_an_empty_variable_is_ignored(write: Write) -> None:
    """``BIBLIOTHECA_BACKUP_MAX_AGE=`` in an .env or a compose file."""
    names = ("DIR", "MAX_AGE", "MAX_COUNT", "ENABLED", "EMAIL")
    empty = {f"BIBLIOTHECA_BACKUP_{name}": "" for name in names} | {"KUZU_DB_PATH": ""}
    text = '[libraries.b]\npreset = "bibliotheca"\nhome = "/srv/b"\n'
    assert load(write(text), empty) == load(write(text), {})


@pytest.mark.parametrize("value", ["soon", "-1", "1.5", "0", "١"])
@pytest.mark.parametrize("name", ["BIBLIOTHECA_BACKUP_MAX_AGE", "BIBLIOTHECA_BACKUP_MAX_COUNT"])
def test_a_variable_that_is_wrong_is_called_by_its_name(write: Write, name: str, value: str) -> None:
    with pytest.raises(SettingsError) as wrong:
        load(write('[libraries.b]\npreset = "bibliotheca"\nhome = "/srv/b"\n'), {name: value})
    assert wrong.value.on == name and value not in str(wrong.value)


def test_a_tilde_is_the_user_s_home(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    text = '[libraries.b]\npreset = "bibliotheca"\nhome = "~/b"\n[stores.s]\nkind = "local"\npath = "~/s"\n'
    found = load(write(text), {})
    assert found.library().home == Path("/home/me/b") and found.store("s").location("x") == "/home/me/s/x"
    by_variable = load(write(text.partition("[stores")[0]), {"BIBLIOTHECA_BACKUP_DIR": "~/v"})
    assert by_variable.store("local").location("x") == "/home/me/v/x"
    assert "home folder" in complaint(write, text.replace("~/s", "~nobody-of-this-name/s"))
