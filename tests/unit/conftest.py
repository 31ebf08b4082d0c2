"""Real archives of real trees, for the tests of the archive and of verify; backups on a shelf for the catalog."""

# Names are bytes here, which Path cannot hold.
# ruff: noqa: PTH115, PTH118, PTH123

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from scriptorium import manifest
from scriptorium.archive import pack, unpack
from scriptorium.members import Unpacked
from scriptorium.model import (
    Annotations,
    ArchiveRecord,
    Backup,
    Copy,
    FileList,
    Manifest,
    Staged,
    TableFingerprint,
    Tree,
)
from scriptorium.settings import load
from scriptorium.stores.objects.archive_package import ArchivePackage
from scriptorium.words import BackupType, Compression, Status, Tier

FIXED_TIME = datetime(2026, 3, 1, 2, 3, 4, 567000, tzinfo=UTC)


def draft(**changes: object) -> Manifest:
    """A manifest as it is before packing."""
    fields: dict[str, object] = {
        "id": manifest.new_id(),
        "library": "bibliotheca",
        "preset": "bibliotheca",
        "type": BackupType.FULL,
        "tier": Tier.MANUAL,
        "name": "before the move",
        "description": "",
        "created_at": FIXED_TIME,
        "finished_at": FIXED_TIME,
        "host": "shelf",
        "scriptorium_version": "0.1.0",
        "tools": {"kuzu": "0.11.3"},
        "parts": (),
        "files": FileList(0, hashlib.sha256().hexdigest(), ()),
        "archive": None,
    }
    return Manifest(**{**fields, **changes})  # type: ignore[arg-type]


def staged(name: str, *trees: Tree, **changes: object) -> Staged:
    """A part that is ready to be packed."""
    fields: dict[str, object] = {
        "source": name,
        "kind": "files",
        "path": trees[0].at if trees else name,
        "method": "read in place",
        "started_at": FIXED_TIME,
        "finished_at": FIXED_TIME,
        "trees": trees,
    }
    return Staged(**{**fields, **changes})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Packed:
    """An archive and its manifest."""

    path: Path
    manifest: Manifest

    @property
    def manifest_bytes(self) -> bytes:
        return manifest.dumps(self.manifest)

    @property
    def paths(self) -> list[str]:
        assert self.manifest.files.entries is not None
        return [entry.path for entry in self.manifest.files.entries]


class Archives:
    """Packs and unpacks in a scratch folder."""

    draft = staticmethod(draft)
    staged = staticmethod(staged)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def pack(
        self,
        *parts: Tree | Staged,
        compression: Compression = Compression.GZIP,
        advance: Callable[[int], None] | None = None,
        name: str = "",
        **changes: object,
    ) -> Packed:
        target = self.folder / (name or f"full_20260301_020304{compression.ending}")
        ready = [part if isinstance(part, Staged) else staged(part.at or "top", part) for part in parts]
        done = pack(target, draft(**changes), ready, compression, spool=self.folder, advance=advance)
        return Packed(target, done)

    def unpack(self, packed: Packed, into: Path, receive: Callable[[str], Path | None] | None = None) -> Unpacked:
        with packed.path.open("rb") as stream:
            return unpack(stream, receive or (lambda path: into / path), roots=[into], expected=packed.manifest.files)


@pytest.fixture
def archives(tmp_path: Path) -> Archives:
    return Archives(tmp_path / "archives")


Picture = dict[bytes, tuple[object, ...]]


def picture(root: Path | bytes) -> Picture:
    """What a backup must keep of a tree: kind, mode, owner, time, contents, attributes, links."""
    top = os.fsencode(root)
    found: Picture = {}
    names: dict[tuple[int, int], bytes] = {}
    for folder, folders, files in os.walk(top):
        for name in sorted([*folders, *files]):
            path = os.path.join(folder, name)
            status = os.lstat(path)
            content: object = None
            attributes: object = ()
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
                attributes = tuple((a, os.getxattr(path, a)) for a in sorted(os.listxattr(path)) if a[:5] == "user.")
            first = path
            if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
                first = names.setdefault((status.st_dev, status.st_ino), path)
            found[path[len(top) :]] = (
                stat.S_IFMT(status.st_mode),
                stat.S_IMODE(status.st_mode),
                status.st_uid,
                status.st_gid,
                status.st_mtime_ns,
                content,
                attributes,
                first[len(top) :],
            )
    return found


@pytest.fixture
def taken_picture() -> Callable[[Path | bytes], Picture]:
    return picture


@pytest.fixture
def tables() -> dict[str, TableFingerprint]:
    return {"Book": TableFingerprint(2000, "f" * 64), "Person": TableFingerprint(1, "0" * 64)}


@pytest.fixture
def archive_maker() -> type[Archives]:
    """For tests that need a new scratch folder for every example."""
    return Archives


@pytest.fixture
def as_nobody(tmp_path: Path) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Root may read and write everything: in this block we are the user nobody."""
    lifted = [(folder, folder.stat().st_mode) for folder in [tmp_path, *tmp_path.parents] if os.geteuid() == 0]
    for folder, mode in lifted:
        folder.chmod(mode | 0o011)

    @contextmanager
    def block() -> Iterator[None]:
        if os.geteuid() != 0:
            yield
            return
        os.setegid(65534)
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(0)

    yield block
    for folder, mode in lifted:
        folder.chmod(mode)


class Shelf:
    """Settings with folders as stores, and backups in them as after a finished run."""

    start = datetime(2026, 1, 1, tzinfo=UTC)

    def __init__(self, folder: Path, *stores: str) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        lines = [f'[stores.{name}]\nkind = "local"\npath = "{name}"\n' for name in stores or ("local",)]
        sources = '[libraries.{0}]\nsources = [{{ name = "up", kind = "files", path = "up-{0}" }}]\n'
        self.file = folder / "scriptorium.toml"
        self.file.write_text(sources.format("lib") + sources.format("other") + "".join(lines))
        self.settings = load(self.file, {})
        self._count = 0

    def put(
        self,
        age: timedelta = timedelta(0),
        *stores: str,
        content: bytes = b"an archive",
        annotations: Annotations | None = None,
        **changes: object,
    ) -> Backup:
        """A backup taken ``age`` after ``start``; returns it as the catalog should list it."""
        self._count += 1
        created = self.start + age
        type = BackupType(str(changes.get("type", "full")))
        name = f"{manifest.archive_name(type, created, Compression.GZIP, None, self._count + 1)}"
        stored = ArchiveRecord(name, len(content), hashlib.sha256(content).hexdigest(), Compression.GZIP)
        files = manifest.file_list([])
        wanted = {"library": "lib", "preset": None, "name": f"backup {self._count}", "tools": {}, "files": files}
        record = draft(**{**wanted, "created_at": created, "finished_at": created, "archive": stored, **changes})
        copies = []
        for store in stores or tuple(self.settings.stores)[:1]:
            staged_archive = self.folder / f"staged-{self._count}-{store}"
            staged_archive.write_bytes(content)
            key = self.settings.store(store).put(ArchivePackage(staged_archive, record)).key
            staged_archive.unlink()
            if annotations is not None:
                self.settings.store(store).annotate(key, annotations)
            copies.append(
                Copy(store, key, len(content), Status.COMPLETE, pinned=bool(annotations and annotations.pinned))
            )
        return Backup(
            id=record.id,
            name=record.name,
            library=record.library,
            type=record.type,
            tier=record.tier,
            created_at=record.created_at,
            description=record.description,
            bytes=len(content),
            status=Status.COMPLETE,
            copies=tuple(copies),
        )

    def path(self, backup: Backup, ending: str = "", store: str = "local") -> Path:
        """An object of a backup as a file."""
        key = next(copy.key for copy in backup.copies if copy.store == store)
        return Path(self.settings.store(store).location(key + ending))


@pytest.fixture
def new_shelf(tmp_path: Path) -> Callable[..., Shelf]:
    return lambda *stores: Shelf(tmp_path / "shelf", *stores)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "shelf")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a settings file."""

    def write(text: str) -> Path:
        file = tmp_path / "scriptorium.toml"
        file.write_text(text, "utf-8")
        return file

    return write


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A process without any settings: an empty working directory and user's configuration folder."""
    for name in tuple(os.environ):
        if name.startswith(("SCRIPTORIUM", "BIBLIOTHECA_", "ALEXANDRIA_", "KUZU_DB_PATH")):
            monkeypatch.delenv(name)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    yield here
