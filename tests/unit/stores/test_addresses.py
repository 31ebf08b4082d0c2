"""How the address of a store is read, and what is refused in one."""

from __future__ import annotations

from pathlib import Path

import pytest

from scriptorium.errors import UsageError
from scriptorium.stores import KINDS
from scriptorium.stores.addresses import is_address, store_at

CANARY = "canary-of-a-password"


def test_each_kind_reads_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    key = tmp_path / "key"
    assert store_at("file:///srv/with%20blank").folder == Path("/srv/with blank")
    assert store_at("vault").folder == tmp_path / "vault"
    bucket = KINDS["s3"].model_validate(
        {"bucket": "books", "prefix": "home/x/", "endpoint_url": "https://s3.example", "region": "eu-1"}
    )
    assert store_at("s3://books/home/x?endpoint_url=https://s3.example&region=eu-1") == bucket
    for address, repository in (("sftp:me@host:/v", "sftp:me@host:/v"), ("vault", str(tmp_path / "vault"))):
        assert store_at(f"restic:{address}", password_file=key) == KINDS["restic"].model_validate(
            {"repository": repository, "password_file": key}
        )
    assert store_at("rsync:me@host:/srv") == KINDS["rsync"].model_validate({"target": "me@host:/srv"})
    assert store_at("borg:ssh://me@host/v", password_file=key) == KINDS["borg"].model_validate(
        {"repository": "ssh://me@host/v", "password_file": key}
    )
    monkeypatch.setenv("RCLONE_CONFIG", str(tmp_path / "rclone.conf"))
    assert store_at("rclone:cloud:x/y") == KINDS["rclone"].model_validate(
        {"remote": "cloud:x/y", "config": tmp_path / "rclone.conf"}
    )
    assert [kind for kind, model in KINDS.items() if not hasattr(model, "from_url")] == []


def test_a_password_is_where_the_program_itself_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTIC_PASSWORD_COMMAND", "pass show vault")
    expected = KINDS["restic"].model_validate({"repository": "/v", "password_command": "pass show vault"})
    assert store_at("restic:/v") == expected


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (f"restic:rest:http://me:{CANARY}@h/", "a password is in the address"),
        (f"s3://books/?secret_key={CANARY}", "a password is in the address"),
        (f"s3://books/?endpoint_url=https://me:{CANARY}@s3.example", "a password is in the address"),
        ("gopher://x", "not the address of a store"),
        ("restic:/nowhere", "where the password is"),
        ("s3://books/?colour=red", "colour"),
        ("s3://books/?endpoint_url=nonsense", "endpoint_url"),
    ],
)
def test_what_is_refused(url: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PASSWORD", "PASSWORD_FILE", "PASSWORD_COMMAND"):
        monkeypatch.delenv(f"RESTIC_{name}", raising=False)
    with pytest.raises(UsageError) as caught:
        store_at(url)
    assert message in str(caught.value) and CANARY not in f"{caught.value} {caught.value.hint}"


def test_options_that_a_kind_does_not_take_are_refused(tmp_path: Path) -> None:
    for given in ({"password_file": tmp_path}, {"identity": tmp_path}):
        with pytest.raises(UsageError, match="takes no --"):
            store_at("rsync:/srv", **given)


def test_a_name_is_no_address() -> None:
    assert [is_address(word) for word in ("offsite", "s3://b", "restic:x", "/srv", "./x", ".")] == [False, *[True] * 5]
