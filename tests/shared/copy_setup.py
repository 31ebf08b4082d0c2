"""A library, and a store of every kind between which its backups are copied."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from age_keys import new_key
from backup_setup import Home
from restic_repository import restic_store
from s3_server import s3_server
from store_fixtures import s3_place
from tree_store import TreeStore

from scriptorium.model import Backup, Manifest
from scriptorium.operations.backup import backup
from scriptorium.requests import BackupRequest
from scriptorium.settings import Settings
from scriptorium.stores import Age, BackupStore, LocalStore
from scriptorium.stores.objects.s3 import S3Store

Stores = dict[str, BackupStore]


@pytest.fixture
def key(tmp_path: Path) -> str:
    return new_key(tmp_path / "key.txt")


def aged(folder: Path, name: str, recipients: str, **more: Any) -> LocalStore:
    return LocalStore(name=name, path=folder / name, age=Age(recipients=(recipients,), **more))


@pytest.fixture
def stores(tmp_path: Path, key: str) -> Stores:
    found: list[Any] = [
        LocalStore(name="local", path=tmp_path / "local"),
        LocalStore(name="usb", path=tmp_path / "usb"),
    ]
    found.append(aged(tmp_path, "aged", key, identity=tmp_path / "key.txt"))
    found.append(aged(tmp_path, "hidden", key, identity=tmp_path / "key.txt", names="encrypted"))
    found.append(S3Store(name="bucket", **s3_place(s3_server())))
    found.append(TreeStore(name="tree", place=str(tmp_path)))
    if shutil.which("restic"):
        found += [restic_store(tmp_path / name, name=name) for name in ("restic", "far")]
    return {one.name: one for one in found}


@pytest.fixture
def settings(home: Home, stores: Stores) -> Settings:
    data = home.folder / "data"
    (data / "covers" / "again").hardlink_to(data / "covers" / "a.jpg")
    (data / "link").symlink_to("notes.txt")
    (data / os.fsdecode(b"\xff odd\n")).write_text("odd")
    (data / "notes.txt").chmod(0o400)
    (data / "empty").mkdir()
    with (data / "sparse").open("wb") as file:
        file.truncate(300_000)
    if os.geteuid() == 0:
        os.chown(data / "covers" / "a.jpg", 12345, 23456)
    return home.settings.model_copy(update={"stores": stores, "workspace": home.folder / "work"})


def only(settings: Settings, *names: str) -> Settings:
    """The settings with these stores alone: nothing asks the others."""
    return settings.model_copy(update={"stores": {name: settings.stores[name] for name in names}})


def saved(settings: Settings, *to: str, **more: Any) -> Backup:
    return backup(only(settings, *to), BackupRequest(to=to, **more)).backup


def saved_manifest(store: BackupStore, taken: Backup) -> Manifest:
    whole: Callable[[str], Manifest] = getattr(store, "whole_manifest", store.manifest)
    return whole(taken.copies[0].key)
