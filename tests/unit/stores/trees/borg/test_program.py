"""How borg is called: its version, its passphrase, what the settings refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from scriptorium.errors import SettingsError, StoreRefused, StoreUnavailable, ToolMissing
from scriptorium.stores import BorgStore
from scriptorium.stores.trees.borg.failures import NoRepository
from scriptorium.stores.trees.borg.program import _require_place, local_folder, passphrase_of, require_program


@pytest.mark.parametrize(
    ("printed", "words"),
    [("borg 1.1.18", "too old"), ("borg 2.0.0b19", "too new"), ("restic 0.14", "not borg"), ("borg 1.4.0", "")],
)
def test_the_version_is_looked_at(printed: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "borg"
    program.write_text(f"#!/bin/sh\necho {printed}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    if not words:
        assert require_program() == (1, 4, 0)
        return
    with pytest.raises(ToolMissing, match=words):
        require_program()


def test_the_place_is_looked_at(tmp_path: Path) -> None:
    with pytest.raises(NoRepository):
        _require_place(tmp_path, "vault")
    with pytest.raises(NoRepository):
        _require_place(tmp_path / "new", "vault")
    (tmp_path / "config").write_bytes(b"\0 of restic")
    with pytest.raises(StoreRefused, match="no repository of borg"):
        _require_place(tmp_path, "vault")
    (tmp_path / "config").write_text("[repository]\nversion = 3\n")
    with pytest.raises(StoreRefused, match="borg 2"):
        _require_place(tmp_path, "vault")
    with pytest.raises(StoreUnavailable):
        _require_place(tmp_path / "config", "vault")
    assert local_folder("file:///srv") == Path("/srv") and local_folder("ssh://host/srv") is None


def store(**settings: object) -> BorgStore:
    return BorgStore.model_validate({"repository": "/srv/vault", **settings})


def test_the_passphrase_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("two words\n")
    monkeypatch.setenv("A_KEY", "of a variable")
    assert passphrase_of(store(password_file=tmp_path / "key"), "vault") == "two words"
    assert passphrase_of(store(password_env="A_KEY"), "vault") == "of a variable"
    assert passphrase_of(store(password_command="echo 'a b'"), "vault") == "a b"
    assert passphrase_of(store(encryption="none"), "vault") == ""
    for missing in ({"password_file": tmp_path / "none"}, {"password_command": "false"}):
        with pytest.raises(StoreRefused, match="cannot be had"):
            passphrase_of(store(**missing), "vault")
    with pytest.raises(SettingsError, match="NO_SUCH"):
        passphrase_of(store(password_env="NO_SUCH"), "vault")


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"password_env": "A", "password_command": "b"},
        {"encryption": "none", "repository": "relative"},
        {"encryption": "none", "repository": "/srv/{now}"},
        {"encryption": "none", "compression": "brotli"},
        {"password_env": "A", "encryption": "rot13"},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        store(**wrong)
