"""What the failures of borg mean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scriptorium.errors import DamageFound, NoSpace, NotFound, ScriptoriumError, StoreRefused, StoreUnavailable
from scriptorium.stores.trees.borg.failures import Locked, NoRepository, ReadOnly, failure


def logged(text: str, name: str = "", level: str = "ERROR") -> str:
    return json.dumps({"type": "log_message", "levelname": level, "message": text, "msgid": name})


TRACEBACK = logged("Traceback (most recent call last):\n  File …\nPlatform: Linux")


@pytest.mark.parametrize(
    ("lines", "kind", "words"),
    [
        ([logged("Repository /x does not exist.", "Repository.DoesNotExist")], NoRepository, "no repository yet"),
        ([logged("Archive a does not exist", "Archive.DoesNotExist")], NotFound, "no such backup"),
        ([logged("passphrase … is incorrect.", "PassphraseWrong")], StoreRefused, "does not open with this password"),
        ([logged("Repository access aborted", "Cache.RepositoryAccessAborted")], StoreRefused, "another place before"),
        ([logged("aborted", "Cache.CacheInitAbortedError")], StoreRefused, "not encrypted"),
        ([logged("No key file for …", "KeyfileNotFoundError")], StoreRefused, "key of the repository is not here"),
        ([logged("/x is not a valid repository.", "Repository.InvalidRepository")], StoreRefused, "no repository that"),
        ([logged("Data integrity error: …", "IntegrityError"), TRACEBACK], DamageFound, "Data integrity error"),
        ([logged("Object with key … not found", "Repository.ObjectNotFound"), TRACEBACK], DamageFound, "not found"),
        (
            [
                logged("Local Exception", "Exception"),
                logged("Traceback (most recent call last):\nFileNotFoundError: [Errno 2] …: '/vault/data/0/2'"),
            ],
            DamageFound,
            "a file of the repository is missing",
        ),
        (
            [logged("Insufficient free space to complete transaction.", "Repository.InsufficientFreeSpaceError")],
            NoSpace,
            "is full",
        ),
        (
            [
                logged("big: read: [Errno 28] No space left on device", level="WARNING"),
                logged("Local Exception", "Exception"),
            ],
            NoSpace,
            "is full",
        ),
        (
            [
                logged("Remote: ssh: connect to host h port 1: Connection refused", level="WARNING"),
                logged("Connection closed by remote host.", "ConnectionClosedWithHint"),
            ],
            StoreUnavailable,
            "does not answer: ssh: connect to host h port 1: Connection refused",
        ),
        (
            [
                logged("Remote: u@h: Permission denied (publickey).", level="WARNING"),
                logged("Connection closed by remote host.", "ConnectionClosedWithHint"),
            ],
            StoreRefused,
            "does not let us in",
        ),
        (
            [
                logged("Remote: bash: line 1: /opt/borg: No such file or directory", level="WARNING"),
                logged("Connection closed by remote host.", "ConnectionClosedWithHint"),
            ],
            StoreRefused,
            "no borg on the server",
        ),
        (
            [logged("Failed to acquire the lock /x/lock.exclusive ([Errno 30] Read-only file system).", "LockFailed")],
            ReadOnly,
            "may only be read",
        ),
        ([logged("Failed to create/acquire the lock /n.exclusive (timeout).", "LockTimeout")], Locked, "another run"),
        (["Invalid placeholder"], StoreUnavailable, "borg failed: Invalid placeholder"),
        ([], StoreUnavailable, "borg failed: status 2"),
    ],
)  # fmt: skip
def test_a_failure_is_known_by_its_name(lines: list[str], kind: type[ScriptoriumError], words: str) -> None:
    error = failure("/vault", 2, lines)
    assert type(error) is kind and words in error.what and error.on == "/vault"


def test_a_signal_is_no_damage() -> None:
    assert "by a signal" in failure("/vault", -9, []).what
    assert "by a signal" in failure("/vault", 143, [logged("Received SIGTERM", "Signal.SIGTERM")]).what


def test_who_holds_a_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / "lock.exclusive").mkdir()
    (tmp_path / "lock.exclusive" / "elsewhere@3281355014145.2852-0").touch()
    (tmp_path / "lock.roster").write_text('{"exclusive": [["elsewhere@3281355014145", 2852, 0]]}')
    lines = [logged(f"Failed to create/acquire the lock {tmp_path}/lock.exclusive (timeout).", "LockTimeout")]
    assert failure("/vault", 2, lines).what == "the repository is locked by process 2852 on elsewhere"
