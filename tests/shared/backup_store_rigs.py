"""The kinds of stores that the suite of backup stores runs on, with what depends on the kind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from age_keys import new_key
from borg_repository import borg_store, damage_segment
from rclone_remote import crypt_store, rclone_store
from restic_repository import damage_pack, restic_store
from s3_relay import Relay
from s3_server import s3_server
from ssh_server import local_store, remote_store
from store_fixtures import s3_place
from tree_store import TreeStore

from scriptorium.errors import StoreUnavailable
from scriptorium.operations.copies import Prepared
from scriptorium.stores import Age, LocalStore
from scriptorium.stores.objects.memory import MemoryStore
from scriptorium.stores.objects.s3 import S3Store
from scriptorium.stores.trees.borg import saving as borg_saving
from scriptorium.stores.trees.borg.archives import new_put
from scriptorium.stores.trees.package import TreePackage
from scriptorium.stores.trees.restic.saving import save_contents


@dataclass(frozen=True)
class Rig:
    """A store, and what depends on its kind: how contents are damaged, how a put is cut short, how it stops answering.

    ``damage`` changes a byte in the middle of the contents of a backup that has one file of noise.
    """

    store: Any
    damage: Callable[[str], None]
    cut_short: Callable[[Prepared], None]
    break_down: Callable[[], None]


def archives(store: Any, break_down: Callable[[], None]) -> Rig:
    def damage(key: str) -> None:
        data = bytearray(store.objects.read_bytes(key))
        data[len(data) // 2] ^= 1
        store.objects.put_bytes(key, bytes(data))

    def cut_short(prepared: Prepared) -> None:
        (package,) = prepared.packages.values()
        store.objects.put(f"lib/{package.file.name}", package.file)  # type: ignore[attr-defined]

    return Rig(store, damage, cut_short, break_down)


def local(folder: Path) -> Rig:
    store = LocalStore(path=folder / "store")

    def break_down() -> None:
        if store.path.exists():
            store.path.rename(folder / "moved away")
        store.path.write_text("not a folder")

    return archives(store, break_down)


def encrypted(folder: Path) -> Rig:
    key = new_key(folder / "key.txt")
    store = LocalStore(path=folder / "store", age=Age(recipients=(key,), identity=folder / "key.txt"))

    def break_down() -> None:
        if store.path.exists():
            store.path.rename(folder / "moved away")
        store.path.write_text("not a folder")

    return archives(store, break_down)


def memory(folder: Path) -> Rig:
    store = MemoryStore()
    return archives(store, store.objects.break_down)


def bucket(folder: Path) -> Rig:
    server = s3_server()
    relay = Relay(server.url)
    return archives(S3Store(**s3_place(server, relay.url)), relay.stop)


def locking(folder: Path) -> Rig:
    """In governance for an hour: the tests of what removes cannot have it."""
    server = s3_server()
    place = s3_place(server) | {"bucket": server.bucket("contracts-locked", locked=True)}
    return archives(S3Store(**place, lock={"mode": "governance", "days": 1 / 24}), lambda: None)


def tree(folder: Path) -> Rig:
    store = TreeStore(place=str(folder))

    def damage(key: str) -> None:
        members = store.kept[key].members
        at = next(number for number, (header, _) in enumerate(members) if header.entry.path.endswith("noise"))
        members[at] = members[at][0], b"other" * 1000

    def cut_short(prepared: Prepared) -> None:
        (package,) = prepared.packages.values()
        store.put(package)
        store.kept[f"lib/{prepared.label}"].manifest = None

    return Rig(store, damage, cut_short, lambda: store.broken.add(store.place))


def restic(folder: Path) -> Rig:
    if shutil.which("restic") is None:
        pytest.skip("restic is not installed")
    store = restic_store(folder)

    def cut_short(prepared: Prepared) -> None:
        (package,) = prepared.packages.values()
        store.snapshots() or store.make()
        save_contents(store.program, package, "cut short", ())  # type: ignore[arg-type]

    def break_down() -> None:
        store.folder.rename(folder / "moved away")
        store.folder.write_text("not a folder")

    return Rig(store, lambda _: damage_pack(store.folder), cut_short, break_down)


def rsync_to(folder: Path, store: Any) -> Rig:
    place = folder / "store"

    def damage(key: str) -> None:
        (file,) = (place / key / "contents").rglob("noise")
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)

    def cut_short(prepared: Prepared) -> None:
        (package,) = prepared.packages.values()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("scriptorium.stores.trees.rsync.saving.corrected", _cut)
            with pytest.raises(StoreUnavailable, match="cut short"):
                store.put(package)

    def break_down() -> None:
        place.rename(folder / "moved away")
        place.write_text("not a folder")

    return Rig(store, damage, cut_short, break_down)


def _cut(*_: Any, **__: Any) -> Any:
    raise StoreUnavailable("cut short")


def rsync(folder: Path) -> Rig:
    return rsync_to(folder, local_store(folder / "store"))


def rsync_by_ssh(folder: Path) -> Rig:
    return rsync_to(folder, remote_store(folder / "store"))


def rclone_to(folder: Path, store: Any) -> Rig:
    place = folder / "store"

    def damage(key: str) -> None:
        file = max((path for path in (place).rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)

    def cut_short(prepared: Prepared) -> None:
        (package,) = prepared.packages.values()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("scriptorium.stores.trees.rclone.saving.corrected", _cut)
            with pytest.raises(StoreUnavailable, match="cut short"):
                store.put(package)

    def break_down() -> None:
        place.rename(folder / "moved away")
        place.write_text("not a folder")
        (folder / "rclone.conf").write_text(
            "[below]\ntype = webdav\nurl = http://127.0.0.1:9\n"
        )  # where nobody answers

    return Rig(store, damage, cut_short, break_down)


def rclone(folder: Path) -> Rig:
    return rclone_to(folder, rclone_store(folder))


def rclone_crypt(folder: Path) -> Rig:
    return rclone_to(folder, crypt_store(folder))


def borg(folder: Path) -> Rig:
    if shutil.which("borg") is None:
        pytest.skip("borg is not installed")
    store = borg_store(folder)
    repository = folder / "vault"

    def cut_short(prepared: Prepared) -> None:
        (package,) = prepared.packages.values()
        assert isinstance(package, TreePackage)
        borg_saving.save_contents(store.program, package, new_put(), "lz4")

    def break_down() -> None:
        repository.rename(folder / "moved away")
        repository.write_text("not a folder")

    return Rig(store, lambda _: damage_segment(repository), cut_short, break_down)


RIGS = {
    "archives in a folder": local,
    "encrypted archives": encrypted,
    "archives in memory": memory,
    "archives in a bucket": bucket,
    "trees in memory": tree,
    "restic": restic,
    "borg": borg,
    "rsync": rsync,
    "rsync by ssh": rsync_by_ssh,
    "rclone": rclone,
    "rclone crypt": rclone_crypt,
}


# A life of a backup there is in test_rsync_hosts.py, test_rclone_store.py and test_borg_store.py.
FAR = {"rsync by ssh", "rclone", "rclone crypt", "borg"}


def kinds() -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.slow if name in FAR else ()) for name in RIGS]
