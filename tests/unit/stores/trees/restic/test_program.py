"""What restic's failures mean, and what is never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from scriptorium.errors import DamageFound, NoSpace, NotFound, Protected, StoreRefused, StoreUnavailable, ToolMissing
from scriptorium.stores.trees.restic.failures import Locked, NoRepository
from scriptorium.stores.trees.restic.program import (
    Restic,
    local_folder,
    network_address,
    require_program,
    secrets_of,
    without_secrets,
)

PROGRAM = Restic("/srv/vault", "/srv/vault", {}, secrets=("s3cret",))
_QUESTION = "Is there a repository at the following location?\ns3:http://127.0.0.1:9000/bucket"
_MISSING = "Fatal: unable to open config file: stat /srv/vault/config: no such file or directory\n"


@pytest.mark.parametrize(
    "status, text, kind, words",
    [
        (1, f"{_MISSING}Is there a repository at the following location?\n/srv/vault", NoRepository, "no repository"),
        (10, "Fatal: repository does not exist", NoRepository, "no repository"),
        (1, "Fatal: wrong password or no key found", StoreRefused, "does not open with this password"),
        (12, "Fatal: wrong password or no key found", StoreRefused, "does not open with this password"),
        (
            1,
            "unable to create lock in backend: repository is already locked by PID 42 on archive by root (UID 0)\n"
            "lock was created at 2026-11-28 07:00:00",
            Locked,
            "locked by PID 42 on archive",
        ),
        (11, "Fatal: unable to create lock", Locked, "locked by another run"),
        (1, "Fatal: unable to save snapshot: write: no space left on device", NoSpace, "full"),
        (1, "latest snapshot for criteria not found: no snapshot found Paths:[] Hosts:[]", NotFound, "no such backup"),
        (1, "cannot dump file: ciphertext verification failed", DamageFound, "ciphertext"),
        (1, "dial tcp 10.0.0.1:443: connection refused", StoreUnavailable, "connection refused"),
        (1, "Fatal: unable to load index 1a2b: dial tcp 10.0.0.1:80: connection refused", StoreUnavailable, "answer"),
        (
            1,
            "unexpected EOF, retrying\nFatal: LoadTree: read tcp: connection reset by peer",
            StoreUnavailable,
            "answer",
        ),
        (
            1,
            "unable to remove <snapshot/89c4> from the repository\nblob not removed: 403 Forbidden",
            Protected,
            "removed",
        ),
        (3, "unable to remove <snapshot/89c4> from the repository\nAccess Denied.", Protected, "removed"),
        (3, "unable to remove <lock/89c4>: dial tcp: connection refused", StoreUnavailable, "does not answer"),
        (-9, "", StoreUnavailable, "signal"),
    ],
)
def test_failures(status: int, text: str, kind: type[Exception], words: str) -> None:
    error = PROGRAM.failure(status, text)
    assert type(error) is kind and words in error.what


def test_a_secret_in_what_it_prints_is_masked() -> None:
    assert "s3cret" not in repr(PROGRAM.failure(1, "cannot reach https://me:s3cret@host/").args)


def test_addresses() -> None:
    assert local_folder("/srv/vault") == local_folder("local:/srv/vault") == Path("/srv/vault")
    assert local_folder("sftp:host:/srv/vault") is None
    assert without_secrets("rest:https://me:pw@host:8000/x") == "rest:https://host:8000/x"
    assert secrets_of("rest:https://me:pw@host:8000/x") == ("pw",)
    assert secrets_of("rest:https://me:p@s%2Fs@host/x") == ("p@s%2Fs", "p@s/s")
    assert without_secrets("rest:https://me:p@ss@host/x") == "rest:https://host/x"
    assert network_address("rest:https://me:pw@host:8000/x") == ("host", 8000)
    assert network_address("rest:http://host/x") == ("host", 80)
    assert network_address("s3:s3.example.org/bucket") == ("s3.example.org", 443)
    assert network_address("s3:http://127.0.0.1:9000/bucket") == ("127.0.0.1", 9000)
    assert network_address("rclone:offsite:vault") is network_address("sftp:host:/x") is None


def _program(folder: Path, version: str) -> None:
    folder.mkdir()
    (folder / "restic").write_text(f"#!/bin/sh\necho '{version}'\n")
    (folder / "restic").chmod(0o755)


def test_a_program_that_is_missing_or_too_old_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(ToolMissing) as missing:
        require_program()
    assert "apt-get install restic" in missing.value.hint
    monkeypatch.setenv("PATH", f"{tmp_path / 'old'}:/usr/bin:/bin")
    _program(tmp_path / "old", "restic 0.11.0 compiled with go1.15.9 on linux/amd64")
    with pytest.raises(ToolMissing, match=r"restic 0\.11\.0 is too old"):
        require_program()
    monkeypatch.setenv("PATH", f"{tmp_path / 'new'}:/usr/bin:/bin")
    _program(tmp_path / "new", "restic 0.19.1 compiled with go1.25 on linux/amd64")
    assert require_program() == (0, 19, 1)
