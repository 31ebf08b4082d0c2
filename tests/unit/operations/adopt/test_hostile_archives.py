"""Harmful archives: each is refused, and nothing is left in the stores or outside."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from scriptorium.catalog import Catalog
from scriptorium.errors import DamageFound, NoSpace, ScriptoriumError, ToolMissing, UnsafeArchive
from tests.shared.adoption import adopt

LINK = 0o120777 << 16
PIPE = 0o010644 << 16


def zipped(
    target: Path, *members: tuple[str, str], attributes: int = 0, compression: int = zipfile.ZIP_DEFLATED
) -> None:
    """A zip with a cover that is as it should be, and then these members."""
    with warnings.catch_warnings(), zipfile.ZipFile(target, "w", compression) as archive:
        warnings.simplefilter("ignore")  # the same name twice
        archive.writestr("data/covers/good.jpg", "good")
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = attributes
            info.compress_type = compression
            archive.writestr(info, content)


def declaring(target: Path, size: int) -> None:
    """A zip whose directory declares another size than there is."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data/covers/good.jpg", bytes(5 << 20))
        archive.filelist[0].file_size = size


def overlapping(target: Path) -> None:
    """A directory in which many members are the same bytes."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data/covers/good.jpg", bytes(1 << 20))
        first = archive.filelist[0]
        for number in range(50):
            double = zipfile.ZipInfo(f"data/covers/{number}.jpg")
            for name in ("CRC", "compress_size", "file_size", "header_offset", "compress_type", "flag_bits"):
                setattr(double, name, getattr(first, name))
            archive.filelist.append(double)


def encrypted(target: Path) -> None:
    zipped(target)
    data = bytearray(target.read_bytes())
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + at] |= 1
    target.write_bytes(data)


ZIPS: dict[str, tuple[Callable[[Path], None], type[ScriptoriumError]]] = {
    "absolute path": (lambda zip: zipped(zip, (f"{zip.parent}/outside/new", "x")), UnsafeArchive),
    "dots in front": (lambda zip: zipped(zip, ("../outside/new", "x")), UnsafeArchive),
    "dots inside": (lambda zip: zipped(zip, ("data/covers/../../../outside/new", "x")), UnsafeArchive),
    "dots as a folder": (lambda zip: zipped(zip, ("data/../", "")), UnsafeArchive),
    "two slashes": (lambda zip: zipped(zip, ("data//covers/new", "x")), UnsafeArchive),
    "a link of no target": (lambda zip: zipped(zip, ("data/covers/l", ""), attributes=LINK), UnsafeArchive),
    "a pipe": (lambda zip: zipped(zip, ("data/covers/p", ""), attributes=PIPE), UnsafeArchive),
    "a file that is a folder": (lambda zip: zipped(zip, ("data/covers", "x")), UnsafeArchive),
    "a name for both": (lambda zip: zipped(zip, ("data/x", "x"), ("data/x/", "")), UnsafeArchive),
    "overlapping members": (overlapping, UnsafeArchive),
    "a bomb that declares itself": (lambda zip: declaring(zip, 1 << 50), NoSpace),
    "a bomb that does not": (lambda zip: declaring(zip, 10), DamageFound),
    "less than it declares": (lambda zip: declaring(zip, 6 << 20), DamageFound),
    "impossibly large metadata": (
        lambda zip: zipped(zip, ("backup_metadata.json", '{"a": "' + "x" * (2 << 20))),
        DamageFound,
    ),
    "encrypted": (encrypted, ToolMissing),
}

FILE, SYM, HARD, FOLDER = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE
Recipe = list[tuple[str, bytes, str]]


def tarred(target: Path, recipe: Recipe) -> None:
    with tarfile.open(target, "w:gz") as archive:
        for name, kind, what in [("data/covers/good.jpg", FILE, "good"), *recipe]:
            member = tarfile.TarInfo(name)
            member.type, member.mode = kind, 0o755
            if kind == FILE:
                member.size = len(what)
                archive.addfile(member, io.BytesIO(what.encode()))
            else:
                member.linkname = what
                archive.addfile(member)


TARS: dict[str, Callable[[Path], Recipe]] = {
    "absolute path": lambda out: [(f"{out}/new", FILE, "x")],
    "dots in front": lambda out: [("../outside/new", FILE, "x")],
    "dots inside": lambda out: [("data/../../outside/new", FILE, "x")],
    "through a symlink": lambda out: [("data/covers/l", SYM, str(out)), ("data/covers/l/new", FILE, "x")],
    "through a symlink inside": lambda out: [("data/l", SYM, "covers"), ("data/l/new", FILE, "x")],
    "a folder where a symlink is": lambda out: [
        ("data/l", SYM, str(out)),
        ("data/l", FOLDER, ""),
        ("data/l/x", SYM, "y"),
    ],
    "a chain of symlinks": lambda out: [
        ("data/d", FOLDER, ""),
        ("data/d/up", SYM, "../.."),
        ("data/l", SYM, "d/up/../outside"),
    ],
    "a hard link to the outside": lambda out: [("data/h", HARD, f"{out}/secret")],
    "a hard link with dots": lambda out: [("data/h", HARD, "../outside/secret")],
    "a hard link to nothing": lambda out: [("data/h", HARD, "data/never")],
    "a device": lambda out: [("data/null", tarfile.CHRTYPE, "")],
    "a pipe": lambda out: [("data/pipe", tarfile.FIFOTYPE, "")],
    "a file that is a folder": lambda out: [("data/covers", FILE, "x")],
    "a folder that is a file": lambda out: [("data/covers/good.jpg/x", FILE, "x")],
    "no name": lambda out: [(".", FILE, "x")],
    "the database is a symlink": lambda out: [
        ("data/kuzu/real.db", FILE, "KUZU"),
        ("data/kuzu/bibliotheca.db", SYM, "real.db"),
    ],
    "its WAL is a symlink": lambda out: [
        ("data/kuzu/bibliotheca.db", FILE, "KUZU"),
        ("data/kuzu/bibliotheca.db.wal", SYM, "../covers/good.jpg"),
    ],
    "its folder is a symlink": lambda out: [
        ("data/other/catalog.kz", FILE, "KUZU"),
        ("data/kuzu", SYM, "other"),
    ],
}


@pytest.fixture
def refused(app: Any, tmp_path: Path, fingerprint: Callable[[Path], object]) -> Callable[..., str]:
    """Adopt what must be refused; afterwards nothing has changed."""
    outside = tmp_path / "old" / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")

    def check(archive: Path, error: type[ScriptoriumError]) -> str:
        before = fingerprint(archive), fingerprint(outside / "secret"), sorted(tmp_path.rglob("old/**"))
        with pytest.raises(error) as message:
            adopt(app.place.settings, archive)
        after = fingerprint(archive), fingerprint(outside / "secret"), sorted(tmp_path.rglob("old/**"))
        assert after == before and not app.left() and not Catalog(app.place.settings).backups()
        return str(message.value)

    return check


@pytest.mark.parametrize("trick", ZIPS)
def test_zips(app: Any, refused: Callable[..., str], trick: str) -> None:
    make, error = ZIPS[trick]
    archive = app.old.folder / "hostile.zip"
    make(archive)
    refused(archive, error)


@pytest.mark.parametrize("trick", TARS)
def test_tars(app: Any, refused: Callable[..., str], trick: str) -> None:
    archive = app.old.folder / "hostile.tar.gz"
    tarred(archive, TARS[trick](app.old.folder / "outside"))
    refused(archive, UnsafeArchive)


def test_a_tar_that_unpacks_to_more_than_there_is_space_for(
    app: Any, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        total: int = 1 << 30
        used: int = 0
        free: int = 100 << 20

    tarred(app.old.folder / "bomb.tar.gz", [("data/covers/big.jpg", FILE, "\0" * (60 << 20))])
    assert (app.old.folder / "bomb.tar.gz").stat().st_size < 1 << 20
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage())
    assert "needs 184.0 MiB" in refused(app.old.folder / "bomb.tar.gz", NoSpace)


def test_a_tar_that_promises_more_than_it_has(app: Any, refused: Callable[..., str]) -> None:
    member = tarfile.TarInfo("data/covers/big.jpg")
    member.size = 1 << 60
    archive = app.old.folder / "lie.tar"
    archive.write_bytes(member.tobuf() + bytes(5000))
    refused(archive, DamageFound)


def test_what_is_harmless_without_its_sting(app: Any) -> None:
    """A link that leads out of the archive is left out, with its name; a set-user-id bit is removed."""
    archive = app.old.folder / "odd.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, kind, what, mode in (
            ("data/covers/good.jpg", FILE, "good", 0o644),
            ("data/covers/same.jpg", HARD, "data/covers/good.jpg", 0o644),
            ("data/covers/also.jpg", SYM, "good.jpg", 0o777),
            ("data/covers/out", SYM, "/etc", 0o777),
            ("data/uploads/run", FILE, "x", 0o6755),
            (".bashrc", FILE, "rm -r ~", 0o644),
            ("manifest.json", FILE, "{}", 0o644),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.linkname = kind, mode, what if kind != FILE else ""
            member.uid, member.gid = os.getuid(), os.getgid()
            member.size = len(what) if kind == FILE else 0
            tar.addfile(member, io.BytesIO(what.encode()) if kind == FILE else None)
    adopted = adopt(app.place.settings, archive)
    manifest = Catalog(app.place.settings).manifest(adopted.backup.copies[0])
    assert manifest.files.entries is not None
    found = {entry.path: entry for entry in manifest.files.entries if entry.kind != "folder"}
    assert sorted(found) == [
        f"data/{name}" for name in ("covers/also.jpg", "covers/good.jpg", "covers/same.jpg", "uploads/run")
    ]
    assert found["data/uploads/run"].mode == 0o755 and found["data/covers/also.jpg"].target == "good.jpg"
    message = "\n".join(adopted.warnings)
    assert "data/covers/out: a link out of the archive (to /etc), left out" in message
    assert "data/uploads/run: its set-uid" in message and ".bashrc" in message
