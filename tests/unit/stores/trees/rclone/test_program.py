"""What rclone's exit codes and words mean, and which words it is called with."""

from __future__ import annotations

import pytest

from scriptorium.errors import DamageFound, NoSpace, NotFound, StoreRefused, StoreUnavailable, ToolMissing
from scriptorium.stores.trees.rclone import program
from scriptorium.stores.trees.rclone.program import Rclone

RCLONE = Rclone("offsite:books", "offsite:books", {"RCLONE_CONFIG_OFFSITE_PASS": "tide"}, (), ("tide",))


@pytest.mark.parametrize(
    "status, text, kind, words",
    [
        (1, """Failed to create file system: didn't find section in config file ("offsite")""", StoreRefused, "know"),
        (1, "unable to decrypt configuration and not allowed to ask for password", StoreRefused, "encrypted"),
        (3, "2026/01/02 03:04:05 ERROR : error listing: directory not found", NotFound, "no such"),
        (4, "object not found", NotFound, "no such"),
        (1, "api error InvalidAccessKeyId: The access key ID does not exist", StoreRefused, "InvalidAccessKeyId"),
        (1, "StatusCode: 403, api error SignatureDoesNotMatch: The request signature", StoreRefused, "refuses"),
        (1, "write /srv/x: no space left on device", NoSpace, "full"),
        (1, "googleapi: Error 403: The user's storage quota has been exceeded", NoSpace, "full"),
        (1, "failed to authenticate decrypted block - bad password?", DamageFound, "cannot read"),
        (5, "dial tcp 127.0.0.1:9: connect: connection refused", StoreUnavailable, "connection refused"),
        (-9, "", StoreUnavailable, "signal"),
        (1, "", StoreUnavailable, "status 1"),
    ],
)
def test_failures(status: int, text: str, kind: type[Exception], words: str) -> None:
    error = RCLONE.failure(status, text)
    assert type(error) is kind and words in error.what


def test_a_secret_is_in_no_error_and_in_no_description() -> None:
    error = RCLONE.failure(1, "login with tide failed")
    assert "tide" not in f"{error.exact} {error.hint} {RCLONE!r}" and "***" in error.what


def test_addresses() -> None:
    assert RCLONE.at("lib", "full", "contents") == "offsite:books/lib/full/contents"
    assert Rclone("offsite:", "").at("lib") == "offsite:lib" and Rclone("/srv", "").at() == "/srv"


def test_a_program_that_is_missing_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "PROGRAM", "no-such-rclone")
    with pytest.raises(ToolMissing) as raised:
        program.require_program()
    assert "no-such-rclone" in raised.value.exact
