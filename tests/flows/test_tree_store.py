"""Every front door on a store that keeps no archives: nothing above the seam may notice it.

One kind, trees in memory, is not a kind of the product: the test puts it into the registry. The other is restic. rsync
and borg have a shorter way.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from borg_repository import borg_store
from rclone_remote import rclone_store
from restic_repository import damage_pack, restic_store
from ssh_server import local_store
from tree_store import TreeStore
from typer.testing import CliRunner

from flows.backup import backup
from flows.drill import drill
from flows.export import export
from flows.prune import prune
from flows.restore import restore, undo
from flows.verify import verify
from scriptorium import settings as settings_module
from scriptorium import stores
from scriptorium.catalog import Catalog
from scriptorium.cli import main
from scriptorium.errors import NotFound
from scriptorium.retention import Policy
from scriptorium.words import Status


def command(*words: str) -> Any:
    done = CliRunner().invoke(main.app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def in_memory(folder: Path) -> str:
    return f'kind = "tree"\nplace = "{folder}"\n'


def restic(folder: Path) -> str:
    if shutil.which("restic") is None:
        pytest.skip("restic is not installed")
    store = restic_store(folder / "restic")
    return f'kind = "restic"\nrepository = "{store.repository}"\npassword_file = "{store.password_file}"\n'


def rsync(folder: Path) -> str:
    return f'kind = "rsync"\npath = "{local_store(folder / "rsync").path}"\n'


def borg(folder: Path) -> str:
    if shutil.which("borg") is None:
        pytest.skip("borg is not installed")
    store = borg_store(folder / "borg")
    place = f'repository = "{store.repository}"\nbase = "{store.base}"\n'
    return f'kind = "borg"\n{place}password_file = "{store.password_file}"\n'


def rclone(folder: Path) -> str:
    store = rclone_store(folder)
    return f'kind = "rclone"\nremote = "{store.remote}"\nconfig = "{store.config}"\n'


@pytest.fixture(params=[in_memory, restic])
def vault(place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """The library of ``place``, whose only store keeps trees."""
    monkeypatch.setitem(stores.KINDS, "tree", TreeStore)
    text = place.config.read_text().partition("[stores.local]")[0]
    place.config.write_text(f'workspace = "{tmp_path}/work"\n{text}[stores.vault]\n{request.param(tmp_path)}')
    monkeypatch.setenv(settings_module.CONFIG_VARIABLE, str(place.config))
    return place


def test_a_library_is_kept_and_comes_back_by_a_store_without_archives(vault: Any, tmp_path: Path) -> None:
    first = backup(library="bibliotheca", name="first")
    assert first.status is Status.VERIFIED and [copy.store for copy in first.copies] == ["vault"]
    assert not list(vault.folder.rglob("*.tar*")) and not list(vault.folder.rglob("*.json.marks"))

    (listed,) = command("list")["backups"]
    assert (listed["id"], listed["status"]) == (first.id, "verified")
    assert command("show", first.id)["id"] == first.id
    assert command("stats")["total_backups"] == 1

    assert all(one.verification.sound for one in verify(ids=(first.id,)).checked)
    assert drill(first.id).proof.proven
    assert Catalog(vault.settings).find("first").status is Status.PROVEN

    back = tmp_path / "back"
    restored = restore(first.id, path=str(back)).restored
    assert restored.files > 5
    cover = "data/covers/a.jpg"
    assert (back / cover).read_bytes() == (vault.home / cover).read_bytes()
    assert os.listdir(tmp_path / "work" / "staging") == []  # noqa: PTH208
    some = tmp_path / "some"
    restore(first.id, path=str(some), only=("*.jpg",))
    assert sorted(path.name for path in some.rglob("*") if path.is_file()) == ["a.jpg", "b.jpg"]

    exported = export(first.id, output=str(tmp_path / "tables"))
    assert {one.table: one.rows for one in exported.tables}["Book"] == 50

    before = (vault.home / cover).read_bytes()
    (vault.home / cover).write_bytes(b"overwritten")
    restore(first.id)
    assert (vault.home / cover).read_bytes() == before
    undo()
    assert (vault.home / cover).read_bytes() == b"overwritten"

    newer = backup(library="bibliotheca")
    assert prune(library="bibliotheca", policy=Policy(last=1)).removed == (first.id,)
    left = Catalog(vault.settings).backups(records=False)
    assert first.id not in {one.id for one in left} and newer.id in {one.id for one in left}
    command("delete", newer.id, "--yes")
    with pytest.raises(NotFound):
        Catalog(vault.settings).find(newer.id)


@pytest.mark.parametrize("vault", [rsync, pytest.param(borg, marks=pytest.mark.slow), rclone], indirect=True)
def test_a_library_is_kept_by_rsync_by_borg_and_by_rclone(vault: Any) -> None:
    first = backup(library="bibliotheca")
    assert first.status is Status.VERIFIED
    cover = vault.home / "data/covers/a.jpg"
    before = cover.read_bytes()
    cover.write_bytes(b"overwritten")
    restore(first.id)
    assert cover.read_bytes() == before
    assert "resumes" in command("stores")["stores"][0]["features"]
    assert command("show", first.id)["id"] == first.id


def damage(store: Any, key: str) -> None:
    """Change a cover."""
    if store.kind == "restic":
        damage_pack(store.folder)
        return
    kept = store.kept[key]
    at = next(number for number, (header, _) in enumerate(kept.members) if header.entry.path.endswith("a.jpg"))
    kept.members[at] = kept.members[at][0], b"x" * 2000


def test_damage_in_a_tree_is_found(vault: Any) -> None:
    taken = backup(library="bibliotheca")
    damage(vault.settings.store("vault"), taken.copies[0].key)
    (checked,) = verify(ids=(taken.id,)).checked
    assert not checked.verification.sound
    assert Catalog(vault.settings).find(taken.id).status is Status.DAMAGED
