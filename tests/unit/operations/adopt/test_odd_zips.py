"""Zips as other programs write them: names in four ways, paths of Windows, trees deeper than paths may be long."""

from __future__ import annotations

import io
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scriptorium.catalog import Catalog
from scriptorium.errors import DamageFound, ScriptoriumError, ToolMissing, UnsafeArchive
from scriptorium.fs.removal import remove_tree
from scriptorium.fs.walking import walk
from scriptorium.operations.adopt import tar as tarred_archive
from scriptorium.operations.adopt import zip as zipped_archive
from scriptorium.operations.adopt.relocation import sort
from scriptorium.operations.restore import restore
from scriptorium.requests import RestoreRequest
from scriptorium.sources import FilesSource
from tests.shared.adoption import adopt

NAME = "data/covers/Überraschung – größer.jpg"
OLD = NAME.replace("–", "-")
UTF8, CP437 = NAME.encode(), OLD.encode("cp437")


def unicode_field(name: str, written: bytes, *, version: int = 1) -> bytes:
    text = name.encode()
    return struct.pack("<HHBL", 0x7075, 5 + len(text), version, zlib.crc32(written)) + text


class _Info(zipfile.ZipInfo):
    written: tuple[bytes, int]

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:
        return self.written


def zipped(target: Path, *members: tuple[bytes, int, bytes], system: int = 3, content: bytes = b"cover") -> Path:
    """A zip with a cover that is as it should be, and members with exactly these names, flags and extra fields."""
    with warnings.catch_warnings(), zipfile.ZipFile(target, "w") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("data/covers/good.jpg", "good")
        for written, flags, extra in members:
            info = _Info("odd")
            info.written, info.extra, info.create_system = (written, flags), extra, system
            info.external_attr = 0o644 << 16
            archive.writestr(info, content)
    return target


def restored(app: Any, archive: Path) -> tuple[set[str], str]:
    """The paths of the covers that a restore writes, and the warnings about the archive."""
    settings = app.place.settings
    adopted = adopt(settings, archive)
    target = archive.with_suffix(".out")
    restore(settings, RestoreRequest(reference=adopted.backup.id, path=target))
    found = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    return found - {"data/covers/good.jpg"}, "\n".join(adopted.warnings)


NAMES: dict[str, tuple[tuple[bytes, int, bytes], str, str]] = {
    "flagged as UTF-8": ((UTF8, 0x800, b""), NAME, ""),
    "UTF-8, unsaid": ((UTF8, 0, b""), NAME, "UTF-8, although"),
    "of DOS": ((CP437, 0, b""), OLD, "code page of DOS"),
    "with the Unicode field": ((CP437, 0, unicode_field(NAME, CP437)), NAME, ""),
    "behind another field": ((CP437, 0, struct.pack("<HHB", 0x5455, 1, 0) + unicode_field(NAME, CP437)), NAME, ""),
    "with the field of another name": ((CP437, 0, unicode_field("data/covers/x", b"y")), OLD, "code page of DOS"),
    "with a field of another version": ((UTF8, 0, unicode_field("x", UTF8, version=2)), NAME, "UTF-8, although"),
    "a letter of another page": ((b"data/covers/\x9b.jpg", 0, b""), "data/covers/¢.jpg", "code page of DOS"),
    "below itself": ((b"./" + UTF8, 0x800, b""), NAME, ""),
    "a dot and a blank at its end": ((b"data/covers/a. ", 0, b""), "data/covers/a. ", ""),
    "another case": ((b"data/covers/GOOD.jpg", 0, b""), "data/covers/GOOD.jpg", ""),
    "a backslash of Unix": ((b"data/covers/a\\b", 0, b""), "data/covers/a\\b", ""),
}


@pytest.mark.parametrize("case", NAMES)
def test_a_name(app: Any, tmp_path: Path, case: str) -> None:
    member, name, message = NAMES[case]
    found, warned = restored(app, zipped(tmp_path / "a.zip", member))
    assert found == {name}
    assert message in warned and bool(message) == ("read as" in warned)


def test_the_paths_of_windows(app: Any, tmp_path: Path) -> None:
    found, warned = restored(app, zipped(tmp_path / "a.zip", (b"data\\covers\\\x81.jpg", 0, b""), system=0))
    assert found == {"data/covers/ü.jpg"} and "code page" in warned
    found, warned = restored(app, zipped(tmp_path / "b.zip", (b"data\\covers\\b.jpg", 0, b""), system=0))
    assert found == {"data/covers/b.jpg"} and "backslashes" in warned


REFUSED: dict[str, tuple[Callable[[Path], Path], type[ScriptoriumError], str]] = {
    "dots of Windows": (lambda zip: zipped(zip, (b"..\\..\\x", 0, b""), system=0), UnsafeArchive, "outside"),
    "a drive": (lambda zip: zipped(zip, (b"C:\\data\\x", 0, b""), system=0), UnsafeArchive, "drive"),
    "a share": (lambda zip: zipped(zip, (b"\\\\host\\share\\x", 0, b""), system=0), UnsafeArchive, "outside"),
    "dots in the field": (
        lambda zip: zipped(zip, (b"data/x", 0, unicode_field("../x", b"data/x"))), UnsafeArchive, "outside"),
    "a zero byte in the field": (
        lambda zip: zipped(zip, (b"data/x", 0, unicode_field("data/x\0y", b"data/x"))), UnsafeArchive, "zero"),
    "a file in a file, by two ways": (
        lambda zip: zipped(zip, (UTF8 + b"/x", 0x800, b""), (b"q", 0, unicode_field(NAME, b"q"))), UnsafeArchive,
        "no folder"),
    "a name too long": (lambda zip: zipped(zip, (b"data/covers/" + b"n" * 256, 0, b"")), UnsafeArchive, "255"),
    "too deep": (lambda zip: zipped(zip, (b"data/covers/" + b"d/" * 6000 + b"x", 0, b"")), UnsafeArchive, "deep"),
    "half a field": (lambda zip: zipped(zip, (UTF8, 0, unicode_field(NAME, UTF8)[:9])), DamageFound, "extra field"),
    "no UTF-8, despite its flag": (lambda zip: zipped(zip, (b"data/\xff", 0x800, b"")), DamageFound, "damaged"),
    "compressed by deflate64": (lambda zip: _marked(zipped(zip, (b"data/x", 0, b"")), 9), ToolMissing, "deflate64"),
    "compressed by zstd": (lambda zip: _marked(zipped(zip, (b"data/x", 0, b"")), 93), ToolMissing, "zstd"),
}  # fmt: skip


def _marked(target: Path, method: int) -> Path:
    """The header of the last member names another compression."""
    data = bytearray(target.read_bytes())
    struct.pack_into("<H", data, data.rindex(b"PK\x01\x02") + 10, method)
    struct.pack_into("<H", data, data.rindex(b"PK\x03\x04") + 8, method)
    target.write_bytes(data)
    return target


@pytest.mark.parametrize("case", REFUSED)
def test_refused(app: Any, tmp_path: Path, case: str) -> None:
    make, kind, message = REFUSED[case]
    with pytest.raises(kind, match=message):
        adopt(app.place.settings, make(tmp_path / "a.zip"))
    assert not Catalog(app.place.settings).backups() and not app.left()


def test_with_a_comment_and_a_time_of_its_own(app: Any, tmp_path: Path) -> None:
    """The extended time field knows no time zone, and counts."""
    plain = tmp_path / "plain.zip"
    zipped(plain, (b"data/covers/a.jpg", 0, struct.pack("<HHBi", 0x5455, 5, 1, 1_000_000_000)))
    with zipfile.ZipFile(plain, "a") as archive:
        archive.comment = b"from the old machine"
    found, _ = restored(app, plain)
    assert found == {"data/covers/a.jpg"}
    assert (plain.with_suffix(".out") / "data/covers/a.jpg").stat().st_mtime == 1_000_000_000


def deep(target: Path, name: str) -> Path:
    """An archive of one file, a zip or a tar by the name of the target."""
    if target.suffix == ".zip":
        return zipped(target, (name.encode(), 0, b""))
    with tarfile.open(target, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        for path in ("data/covers/good.jpg", name):
            member = tarfile.TarInfo(path)
            member.size = 5
            tar.addfile(member, io.BytesIO(b"cover"))
    return target


@pytest.mark.slow
@pytest.mark.parametrize("reader", [zipped_archive, tarred_archive])
def test_deeper_than_python_calls_and_longer_than_a_path(app: Any, tmp_path: Path, reader: Any) -> None:
    name = "data/covers/" + "folder/" * 1100 + "x.jpg"
    archive = deep(tmp_path / f"a.{'zip' if reader is zipped_archive else 'tar'}", name)
    inventory, raw = reader.read_inventory(archive), tmp_path / "raw"
    raw.mkdir()
    reader.unpack(archive, raw, inventory)
    sources = [one for one in app.place.settings.library(None).sources if isinstance(one, FilesSource)]
    sort(raw, tmp_path / "home", sources)
    assert [one.inside(found) for one in walk(tmp_path / "home") for found in one.others if found == "x.jpg"] == [name]
    remove_tree(tmp_path / "home")
    remove_tree(raw)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_two_thousand_folders_deep(app: Any, tmp_path: Path, kind: str) -> None:
    """Adopted, which reads the new archive back."""
    name = "data/covers/" + "folder/" * 2000 + "x.jpg"
    adopted = adopt(app.place.settings, deep(tmp_path / f"a.{kind}", name))
    manifest = Catalog(app.place.settings).manifest(adopted.backup.copies[0])
    assert manifest.files.count >= 2
