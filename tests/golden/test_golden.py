"""Archives and manifests of every version are always read. ``make.py`` made them; they never change."""

# Names are bytes here, which Path cannot hold.
# ruff: noqa: PTH115, PTH118, PTH123

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import stat
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from scriptorium.archive import unpack
from scriptorium.archive.verification import verify_copy
from scriptorium.errors import ToolMissing
from scriptorium.manifest import VERSION, loads, loads_annotations
from scriptorium.model import Manifest
from scriptorium.restore import Supply, restore_into
from scriptorium.sources import RestoreOptions
from scriptorium.stores import LocalStore

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Golden:
    """One committed backup, and what was recorded of it when it was made."""

    version: int
    name: str
    expected: dict[str, Any]

    @property
    def folder(self) -> Path:
        return HERE / f"version-{self.version}" / "bibliotheca"

    @property
    def archive(self) -> Path:
        return self.folder / self.name

    @property
    def manifest_bytes(self) -> bytes:
        return (self.folder / f"{self.name}.json").read_bytes()

    @cached_property
    def manifest(self) -> Manifest:
        return loads(self.manifest_bytes)

    @property
    def supply(self) -> Supply:
        return Supply(LocalStore(path=self.folder.parent), f"bibliotheca/{self.name}", self.manifest)

    def __str__(self) -> str:
        return f"version-{self.version}-{self.name}"


def _all() -> list[Golden]:
    return [
        Golden(version, name, expected)
        for version in range(1, VERSION + 1)
        for name, expected in json.loads((HERE / f"version-{version}" / "expected.json").read_text()).items()
    ]


ALL = _all()
every = pytest.mark.parametrize("golden", ALL, ids=str)


def test_every_archive_of_the_folder_is_among_them() -> None:
    for version in range(1, VERSION + 1):
        held = {one.key.rpartition("/")[2] for one in LocalStore(path=HERE / f"version-{version}").list("bibliotheca")}
        assert held == {golden.name for golden in ALL if golden.version == version}


@every
def test_the_manifest_is_read(golden: Golden) -> None:
    manifest, expected = golden.manifest, golden.expected
    assert manifest.version == golden.version
    for field in ("id", "name"):
        assert getattr(manifest, field) == expected[field]
    assert manifest.created_at == datetime.fromisoformat(expected["created_at"])
    assert (manifest.library, manifest.preset, manifest.type) == ("bibliotheca", "bibliotheca", "full")
    assert (manifest.tier, manifest.host) == (expected["tier"], "golden.example")
    assert [(part.source, part.kind, part.path) for part in manifest.parts] == [
        ("kuzu", "kuzu", "data/kuzu/bibliotheca.db"),
        ("data", "files", "data"),
        ("config", "files", ""),
    ]
    kuzu = manifest.parts[0]
    assert kuzu.engine_version == manifest.tools["kuzu"] == "0.11.3"
    assert kuzu.export == "exports/kuzu"
    assert kuzu.tables is not None
    assert {name: table.rows for name, table in kuzu.tables.items()} == expected["rows"]
    assert manifest.warnings == ("data/odd/gone: vanished before it was read",)
    data = golden.archive.read_bytes()
    assert manifest.archive is not None and manifest.archive.name == golden.name
    assert (manifest.archive.bytes, manifest.archive.sha256) == (len(data), hashlib.sha256(data).hexdigest())


@every
def test_the_annotations_are_read(golden: Golden) -> None:
    annotations = loads_annotations((golden.folder / f"{golden.name}.marks.json").read_bytes())
    assert annotations.pinned
    assert annotations.verification is not None and annotations.verification.sound
    assert annotations.verification.at == datetime.fromisoformat(golden.expected["created_at"]).astimezone(UTC)
    assert annotations.verification.seconds == 0.5


@every
def test_a_verification_finds_nothing(golden: Golden) -> None:
    assert verify_copy(lambda: golden.archive.open("rb"), golden.manifest_bytes, name=golden.name) == ()


Picture = dict[bytes, tuple[object, ...]]


def picture(root: Path) -> Picture:
    """What is on the disk, without the database, its folder and its export."""
    top = os.fsencode(root)
    found: Picture = {}
    first: dict[int, bytes] = {}
    for folder, folders, files in os.walk(top):
        for name in sorted([*folders, *files]):
            path = os.path.join(folder, name)
            inside = path[len(top) + 1 :]
            if inside.startswith((b"data/kuzu", b"exports")):
                continue
            status = os.lstat(path)
            what: object = "folder"
            same: object = None
            if stat.S_ISLNK(status.st_mode):
                what = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    what = hashlib.file_digest(file, "sha256").hexdigest()
                if status.st_nlink > 1:
                    same = first.setdefault(status.st_ino, inside)
            found[inside] = (what, same, stat.S_IMODE(status.st_mode), status.st_mtime_ns)
    return found


def wanted(golden: Golden) -> Picture:
    """The same from the record of when the archive was made."""
    found: Picture = {}
    for entry in golden.expected["entries"]:
        target = base64.b64decode(entry["target"]) if "target" in entry else None
        same = base64.b64decode(entry["same_as"]) if "same_as" in entry else None
        what = target if target is not None else entry.get("sha256", "folder")
        found[base64.b64decode(entry["path"])] = (what, same, entry["mode"], entry["mtime_ns"])
    return found


def with_first_names(tree: Picture) -> Picture:
    """Which of two names of one file came first depends on the walk: their set does not."""
    groups: dict[object, list[bytes]] = {}
    for path, properties in tree.items():
        if properties[1] is not None:
            groups.setdefault(properties[1], []).append(path)
    first = {path: min(group) for group in groups.values() for path in group}
    return {path: (properties[0], first.get(path), *properties[2:]) for path, properties in tree.items()}


@every
def test_it_is_unpacked_as_it_was(golden: Golden, tmp_path: Path) -> None:
    with golden.archive.open("rb") as stream:
        done = unpack(stream, lambda path: tmp_path / path, roots=[tmp_path], expected=golden.manifest.files)
    assert done.unset == ()
    assert with_first_names(picture(tmp_path)) == with_first_names(wanted(golden))
    export = {path.name for path in (tmp_path / "exports" / "kuzu").iterdir()}
    assert {"schema.cypher", "copy.cypher", "Book.parquet", "Person.parquet"} <= export


@every
@pytest.mark.parametrize("rebuild", [False, True], ids=["raw", "from-export"])
def test_its_database_is_restored_with_the_tables_as_recorded(golden: Golden, tmp_path: Path, rebuild: bool) -> None:
    supply = golden.supply
    try:
        done = restore_into(
            Supply(supply.store, supply.key, supply.manifest, (), RestoreOptions.chosen({"rebuild": rebuild})),
            tmp_path / "new",
            "000000000000",
        )
    except ToolMissing as missing:
        pytest.skip(f"no Kuzu that reads it: {missing}")
    assert done.tables == golden.manifest.parts[0].tables
    assert done.parts == ("kuzu", "data", "config")


@every
def test_plain_tar_and_sha256sum_read_it(golden: Golden, tmp_path: Path) -> None:
    if golden.name.endswith(".zst") and shutil.which("zstd") is None:
        pytest.skip("no zstd program here: apt-get install zstd")
    tar = ["tar", "--delay-directory-restore", "--warning=no-timestamp", "-xpf", golden.archive, "-C", tmp_path]
    done = subprocess.run(tar, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run(["sha256sum", "--quiet", "--strict", "-c", "SHA256SUMS"], cwd=tmp_path, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    ours = {b"backup_metadata.json", b"files.jsonl", b"manifest.json", b"SHA256SUMS"}
    tree = {path: properties for path, properties in picture(tmp_path).items() if path not in ours}
    assert with_first_names(tree) == with_first_names(wanted(golden))


def test_no_golden_file_has_changed() -> None:
    """``SHA256SUMS`` gets lines for a new version; the present lines never change."""
    done = subprocess.run(["sha256sum", "--quiet", "--strict", "-c", "SHA256SUMS"], cwd=HERE, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    listed = {line.split("  ", 1)[1] for line in (HERE / "SHA256SUMS").read_text().splitlines()}
    there = {str(file.relative_to(HERE)) for file in HERE.glob("version-*/**/*") if file.is_file()}
    assert listed == there
