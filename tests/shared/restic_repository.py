"""Repositories of restic for tests: a store on a folder, a repository that opens fast, damage in the largest pack."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

from scriptorium.stores import ResticStore

PASSWORD = "tide and time"
# An empty repository as `restic init` made it, with one change: its key is derived from the password by scrypt with
# N=2 instead of 32,768. So every call of restic takes half a second less.
_KEY = (
    '{"created":"2026-01-01T00:00:00Z","username":"test","hostname":"test","kdf":"scrypt","N":2,"r":1,"p":1,'
    '"salt":"n3bEs0pZNuVKVYycfgX2zkfiW6svdHxOGMds3cpIErmAqVzYlQS3rPJZH2HTBAUtM5MBbiwb2cnhR1N0nwX10Q==",'
    '"data":"TCKxDl/bi2Bd/31MwN3s+xgBRkUgTTu7PtdIsVQJI1guWOmxyDm1Gp6dwpSUdObzOFy5+rHWOTgS43boBtzC/J4ttjcktKY9554'
    "9GKqHvrGqZ3552Lhf7P5P0N11M2v8XH6UYJ/vPIz2dOUUiLjoK2KNX+VZtKuwoPEaHPm+3mpchbQUWQ1O6bStZex/igXQso810bx9mUC0YYC"
    'eamQBqQ=="}'
)
_CONFIG = (
    "V7G5pn7AWAPKoHtSmiz/I7tSj3/A+KZP2RoneTD1DDmJg6mdcvxC0OICRAamcwu0J5cTH8GiLIymBEtHB8okudFE7F3HiFFKk0QF75eNp9efTv06"
    "UYz31JIXCQ4SuNcZX4sfsXz1vA0LIEuPS3GP8Bncz5JRmtbNDK9B5dDYL3jftIkWudJvUf4bhphT6FqUfqEShQ7Z+y5x7as="
)


def restic_store(folder: Path, **more: object) -> ResticStore:
    """A store on an empty repository in ``folder``."""
    make_repository(folder / "vault")
    return new_store(folder, **more)


def new_store(folder: Path, **more: object) -> ResticStore:
    """A store that has no repository yet."""
    folder.mkdir(parents=True, exist_ok=True)
    key = folder / "vault.key"
    key.write_text(PASSWORD + "\n")
    return ResticStore.model_validate({"repository": str(folder / "vault"), "password_file": key, **more})


def make_repository(place: Path) -> None:
    for name in ("data", "index", "keys", "locks", "snapshots"):
        (place / name).mkdir(parents=True)
    (place / "config").write_bytes(base64.b64decode(_CONFIG))
    (place / "keys" / hashlib.sha256(_KEY.encode()).hexdigest()).write_text(_KEY)


def damage_pack(repository: Path) -> None:
    """Change a byte in the middle of the largest pack: the contents of the largest file."""
    pack = max((repository / "data").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else -1)
    pack.chmod(0o600)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)


def environment(store: ResticStore) -> dict[str, str]:
    """The environment of a person who uses restic on the repository of a store."""
    more = {"RESTIC_REPOSITORY": store.repository, "RESTIC_PASSWORD_FILE": str(store.password_file)}
    return {**os.environ, **more, "RESTIC_PROGRESS_FPS": "1"}
