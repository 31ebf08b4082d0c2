"""Settings of an rclone store, and what of them gets into the environment of the program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from rclone_remote import require_rclone

from scriptorium.errors import SettingsError
from scriptorium.stores import RcloneStore


def store(**settings: Any) -> RcloneStore:
    return RcloneStore.model_validate(settings)


def test_a_remote_of_the_settings_has_its_secrets_in_the_environment_alone(tmp_path: Path) -> None:
    require_rclone()
    (tmp_path / "key").write_text("hush\n")
    options = {"type": "s3", "access_key_id": "me"}
    made = store(remote="offsite:books", options=options, options_file={"secret_access_key": tmp_path / "key"})
    rclone = made.program
    assert rclone.environment["RCLONE_CONFIG_OFFSITE_TYPE"] == "s3"
    assert rclone.environment["RCLONE_CONFIG_OFFSITE_SECRET_ACCESS_KEY"] == "hush"
    assert "hush" not in f"{made!r} {rclone!r} {rclone.words}" and "hush" in rclone.secrets


def test_a_folder_of_this_machine_is_known() -> None:
    assert store(remote="/srv/x").folder == store(remote=":local:/srv/x").folder == Path("/srv/x")
    assert store(remote="nas:x").folder is None and store(remote="nas:x").features.remote


def test_crypt_encrypts(tmp_path: Path) -> None:
    config = tmp_path / "rclone.conf"
    config.write_text("[sealed]\ntype = crypt\nremote = nas:x\n")
    assert store(remote="sealed:", config=config).features.encrypts
    assert not store(remote="nas:x", config=config).features.encrypts


@pytest.mark.parametrize(
    "settings",
    [
        {"remote": "relative/path"},
        {"remote": "/srv/x", "options": {"type": "s3"}},
        {"remote": "a-b:x", "options": {"type": "s3"}},
        {"remote": "nas:x", "options": {"endpoint": "x"}},
        {"remote": "nas:x", "options": {"type": "s3", "key": "x"}, "options_env": {"key": "X"}},
        {"remote": "nas:x", "config_password_env": "A", "config_password_command": "b"},
    ],
)
def test_what_cannot_be_meant_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        store(**settings)


def test_a_secret_that_is_not_there_is_an_error_of_the_settings(tmp_path: Path) -> None:
    made = store(remote="nas:x", options={"type": "s3"}, options_file={"secret_access_key": tmp_path / "none"})
    with pytest.raises(SettingsError):
        _ = made.program
