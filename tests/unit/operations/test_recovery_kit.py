"""The recovery kit: what is in it, what must not be, and whether its commands work as they are printed."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from age_keys import new_key
from restic_repository import PASSWORD, make_repository

from scriptorium.errors import KeyMissing, SettingsError, UsageError
from scriptorium.operations.backup import backup
from scriptorium.operations.bare_store import look
from scriptorium.operations.recovery_kit import kit_finding, make_kit
from scriptorium.requests import BackupRequest
from scriptorium.settings import Settings, load
from scriptorium.stores import KINDS, age_of
from scriptorium.stores.addresses import store_at
from scriptorium.stores.recovery import recovery_of

CANARY = "canary-of-a-password"
TEXT = "the text of a book"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A library of files in an encrypted folder and in a repository of restic."""
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "data" / "sub" / "a.txt").write_text(TEXT)
    recipient = new_key(tmp_path / "key.txt")
    (tmp_path / "vault.key").write_text(PASSWORD + "\n")
    make_repository(tmp_path / "vault")
    (tmp_path / "scriptorium.toml").write_text(
        f"""
workspace = "work"
[libraries.lib]
sources = [{{ name = "data", kind = "files", path = "data" }}]
[stores.plain]
path = "plain"
[stores.sealed]
path = "sealed"
age = {{ recipients = ["{recipient}"], identity = "key.txt" }}
[stores.vault]
kind = "restic"
repository = "{tmp_path}/vault"
password_file = "vault.key"
[stores.far]
kind = "restic"
repository = "rest:http://me:{CANARY}@host.example/"
password = "{CANARY}"
[stores.trees]
kind = "rsync"
path = "trees"
[stores.cloud]
kind = "rclone"
remote = "{tmp_path}/cloud"
[stores.borg]
kind = "borg"
repository = "{tmp_path}/borg"
password_file = "vault.key"
[stores.bucket]
kind = "s3"
bucket = "books"
endpoint_url = "https://s3.example"
"""
    )
    return load(tmp_path / "scriptorium.toml", {})


def commands(text: str, store: str) -> list[str]:
    """What the page says to type for a store, by hand."""
    block = text[text.index(f"\nStore {store} ") :].partition("by hand")[2].split("\nStore ")[0]
    return re.findall(r"^    (.*)$", block, re.MULTILINE)


def test_everything_but_the_secrets_is_in_it(settings: Settings, tmp_path: Path) -> None:
    assert kit_finding(settings).found == "none was made"
    file = tmp_path / "kit.txt"
    made = make_kit(settings, output=file)
    text = file.read_text()
    assert text == made.text and file.stat().st_mode & 0o777 == 0o600
    recipient = age_of(tmp_path / "key.txt").recipients[0]
    for expected in (
        f"perhaps in {tmp_path}/key.txt [{recipient}]",
        f"password of the repository: the file {tmp_path}/vault.key",
        "password of the repository: the settings file",
        f"--store 'restic:{tmp_path}/vault'",
        "--store 's3://books/?endpoint_url=https://s3.example'",
        "Library lib",
        "data (files) in data",
    ):
        assert expected in text, expected
    secret = next(line for line in (tmp_path / "key.txt").read_text().split("\n") if line.startswith("AGE-SECRET"))
    page = make_kit(settings, output=None, html=True).text
    for canary in (CANARY, secret, PASSWORD):
        assert canary not in text and canary not in page
    root = ElementTree.fromstring(page)
    names = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert {"html", "svg", "pre"} <= names and "Library lib" in "".join(root.itertext())


def test_every_kind_has_its_commands(settings: Settings) -> None:
    found = [recovery_of(store) for store in settings.stores.values()]
    assert {store.kind for store in settings.stores.values()} == set(KINDS)
    assert all(one.address and one.commands and one.programs for one in found)


def test_it_is_remembered_until_a_key_changes(settings: Settings, tmp_path: Path) -> None:
    make_kit(settings, output=None)
    assert kit_finding(settings).good and kit_finding(settings).found.startswith("made on ")
    file = tmp_path / "scriptorium.toml"
    file.write_text(file.read_text().replace('password_file = "vault.key"', 'password_file = "other.key"'))
    changed = kit_finding(load(file, {}))
    assert changed.found.startswith("stores or keys changed since") and "recovery-kit" in changed.hint


@pytest.mark.skipif(shutil.which("age") is None or shutil.which("restic") is None, reason="age or restic is not here")
def test_its_commands_work_as_they_are_printed(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = {"trees": "rsync", "cloud": "rclone", "borg": "borg"}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    monkeypatch.setenv("PATH", path)  # the rclone of the wheel
    here = [store for store, program in programs.items() if shutil.which(program, path=path)]
    stores = ("plain", "sealed", "vault", *here)
    result = backup(settings, BackupRequest(to=stores))
    assert not result.failed, result.failed
    text = make_kit(settings, output=None).text
    for store in stores:
        target = tmp_path / f"back-{store}"
        script = "\n".join(commands(text, store)).replace("/srv/recovered", str(target))
        done = subprocess.run(
            ["bash", "-ec", script],
            cwd="/",
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, (script, done.stderr)
        found = [path for path in target.rglob("a.txt") if path.read_text() == TEXT]
        assert len(found) == 1 and found[0].parts[-3:] == ("data", "sub", "a.txt")
        kind = settings.store(store).kind
        key = {"password_file": tmp_path / "vault.key"} if kind in ("restic", "borg") else {}
        alone = store_at(recovery_of(settings.store(store)).address, **key)
        (library,) = look(Settings(libraries={}, stores={kind: alone}, workspace=tmp_path / f"{store}-work")).libraries
        assert (library.name, library.newest_id) == ("lib", result.backup.id)


@pytest.mark.skipif(shutil.which("age") is None, reason="age is not here")
def test_the_key_in_it_is_opened_by_age_itself(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="shorter than"):
        make_kit(settings, output=None, passphrase="short")
    text = make_kit(settings, output=None, passphrase="four random words here").text
    armored = text[text.index("-----BEGIN") : text.index("-----END")] + "-----END AGE ENCRYPTED FILE-----\n"
    (tmp_path / "key.age").write_text(armored)
    with pytest.raises(SettingsError, match="itself encrypted by a passphrase"):
        age_of(tmp_path / "key.age")
    child, terminal = pty.fork()
    if child == 0:
        os.execvp("age", ["age", "-d", "-o", str(tmp_path / "opened.txt"), str(tmp_path / "key.age")])
    shown = b""
    while b"passphrase" not in shown.lower():
        shown += os.read(terminal, 1000)
    time.sleep(0.2)
    os.write(terminal, b"four random words here\n")
    assert os.waitpid(child, 0)[1] == 0
    os.close(terminal)
    assert (tmp_path / "opened.txt").read_text() == (tmp_path / "key.txt").read_text()


def test_the_command_prints_it_or_writes_it(settings: Settings, tmp_path: Path) -> None:
    words = [Path(sys.executable).with_name("scriptorium"), "--config", tmp_path / "scriptorium.toml", "recovery-kit"]
    shown = subprocess.run(words, capture_output=True, text=True, timeout=100)
    assert shown.returncode == 0, shown.stderr
    assert "\nLibrary lib\n  data (files) in data\n" in shown.stdout and CANARY not in shown.stdout
    written = subprocess.run(
        [*words, "--html", "--output", tmp_path / "kit.html", "--json"], capture_output=True, text=True, timeout=100
    )
    assert json.loads(written.stdout)["file"] == str(tmp_path / "kit.html") and CANARY not in written.stdout
    assert ElementTree.parse(tmp_path / "kit.html")
    alone = subprocess.run([*words, "--passphrase-file", "x"], capture_output=True, text=True, timeout=100)
    assert alone.returncode == 2 and "--with-key" in alone.stderr


def test_without_a_key_here_there_is_none_to_add(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    file = tmp_path / "scriptorium.toml"
    file.write_text(
        '[libraries.lib]\nsources = [{ name = "data", kind = "files", path = "data" }]\n[stores.local]\npath = "s"\n'
    )
    with pytest.raises(KeyMissing):
        make_kit(load(file, {}), output=None, passphrase="four random words here")
