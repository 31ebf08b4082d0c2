"""A damage matrix: real archives are damaged, and each kind of damage has its own word."""

from __future__ import annotations

import dataclasses
import gzip
import io
import os
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scriptorium import manifest
from scriptorium.archive import extract_member
from scriptorium.archive.verification import (
    ALTERED_ARCHIVE,
    ALTERED_MANIFEST,
    ALTERED_MEMBER,
    EXTRA_MEMBER,
    MISSING_ARCHIVE,
    MISSING_MANIFEST,
    MISSING_MEMBER,
    TRUNCATED,
    UNREADABLE,
    VERDICTS,
    WRONG_ARCHIVE,
    verified,
    verify_copy,
)
from scriptorium.errors import NotFound, StoreUnavailable
from scriptorium.model import Tree
from scriptorium.words import Compression

NAME = "bibliotheca/full_20260301_020304.tar.gz"
Members = dict[str, tuple[tarfile.TarInfo, bytes]]


class Copy:
    """A copy in a store, to be damaged: the archive's bytes and the manifest's."""

    def __init__(self, packed: Any, other: Any) -> None:
        self.archive: bytes | None = packed.path.read_bytes()
        self.manifest: bytes | None = packed.manifest_bytes
        self.packed = packed
        self.other = other

    def found(self, name: str = NAME, **more: Any) -> list[tuple[str, str]]:
        """Verdicts and subjects."""

        def opened() -> io.BytesIO:
            if self.archive is None:
                raise NotFound("no such object", on=name)
            return io.BytesIO(self.archive)

        return [(each.verdict, each.subject) for each in verify_copy(opened, self.manifest, name=name, **more)]

    def remake(self, change: Callable[[Members], Members | None]) -> None:
        """The archive with other members, made with a tar program."""
        assert self.archive is not None
        members: Members = {}
        with tarfile.open(fileobj=io.BytesIO(self.archive)) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isreg() else None
                members[member.name] = (member, file.read() if file else b"")
        members = change(members) or members
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for member, data in members.values():
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        self.archive = gzip.compress(buffer.getvalue(), mtime=0)


@pytest.fixture(params=["a short list", "a long list"])
def copy(request: Any, archives: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Copy:
    if request.param == "a long list":
        monkeypatch.setattr("scriptorium.members.ledger.INLINE", 3)
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "a").write_bytes(random.Random(1).randbytes(70_000))
    (root / "b").write_text("words " * 10_000)
    (root / "sub" / "caf\u00e9").write_text("x")
    (root / "link").symlink_to("a")
    os.link(root / "a", root / "same")
    packed = archives.pack(Tree(str(root), "top"), name=NAME.rpartition("/")[2])
    other = archives.pack(Tree(str(root / "sub"), "top"), name="other.tar.gz")
    return Copy(packed, other)


def test_a_sound_copy(copy: Copy) -> None:
    assert copy.found() == []
    assert copy.archive is not None
    advanced: list[int] = []
    assert copy.found(size=len(copy.archive), advance=advanced.append) == []
    assert sum(advanced) == len(copy.archive)


def edit(name: str, /, **fields: object) -> Callable[[Copy], None]:
    def change(members: Members) -> None:
        for field, value in fields.items():
            setattr(members[name][0], field, value)

    return lambda copy: copy.remake(change)


def rewrite(name: str, change: Callable[[bytes], bytes]) -> Callable[[Copy], None]:
    def changed(members: Members) -> None:
        member, data = members[name]
        assert change(data) != data
        members[name] = (member, change(data))

    return lambda copy: copy.remake(changed)


def drop(*names: str) -> Callable[[Copy], None]:
    return lambda copy: copy.remake(lambda members: {name: m for name, m in members.items() if name not in names})


def add(name: str) -> Callable[[Copy], None]:
    def added(members: Members) -> Members:
        first = dict(list(members.items())[:2])
        return {**first, name: (tarfile.TarInfo(name), b"hello"), **members}

    return lambda copy: copy.remake(added)


def resealed(data: bytes, **changes: Any) -> bytes:
    return manifest.dumps(dataclasses.replace(manifest.loads(data), **changes))


def cut(count: int) -> Callable[[Copy], None]:
    def change(copy: Copy) -> None:
        assert copy.archive is not None
        copy.archive = copy.archive[:count]

    return change


def flip(place: int) -> Callable[[Copy], None]:
    def change(copy: Copy) -> None:
        assert copy.archive is not None
        data = bytearray(copy.archive)
        data[place] ^= 1
        copy.archive = bytes(data)

    return change


def put(**fields: Callable[[Copy], bytes | None]) -> Callable[[Copy], None]:
    def change(copy: Copy) -> None:
        for field, value in fields.items():
            setattr(copy, field, value(copy))

    return change


def both(one: Callable[[Copy], None], two: Callable[[Copy], None]) -> Callable[[Copy], None]:
    def change(copy: Copy) -> None:
        one(copy)
        two(copy)

    return change


# what is done to the copy, and every finding that it must bring
MATRIX: dict[str, tuple[Callable[[Copy], None], list[tuple[str, str]]]] = {
    "the archive is gone": (put(archive=lambda c: None), [(MISSING_ARCHIVE, NAME)]),
    "the manifest is gone": (put(manifest=lambda c: None), [(MISSING_MANIFEST, NAME)]),
    "the archive is empty": (cut(0), [(TRUNCATED, NAME)]),
    "the archive has its first byte": (cut(1), [(TRUNCATED, NAME)]),
    "the archive has a thousand bytes": (cut(1000), [(TRUNCATED, NAME)]),
    "the archive has seventy thousand bytes": (cut(70_000), [(TRUNCATED, NAME)]),
    "the archive lacks its last byte": (cut(-1), [(TRUNCATED, NAME)]),
    "cut, and no manifest": (
        put(archive=lambda c: (c.archive or b"")[:70_000], manifest=lambda c: None),
        [(MISSING_MANIFEST, NAME), (TRUNCATED, NAME)],
    ),
    "contents differ": (rewrite("top/a", lambda d: d[:-1] + b"!"), [(ALTERED_MEMBER, "top/a")]),
    "contents are shorter": (rewrite("top/b", lambda d: d[:-1]), [(ALTERED_MEMBER, "top/b")]),
    "the mode differs": (edit("top/b", mode=0o600), [(ALTERED_MEMBER, "top/b")]),
    "the mode of a folder differs": (edit("top/sub", mode=0o700), [(ALTERED_MEMBER, "top/sub")]),
    "the time differs": (edit("top/b", mtime=5, pax_headers={}), [(ALTERED_MEMBER, "top/b")]),
    "the target differs": (edit("top/link", linkname="b"), [(ALTERED_MEMBER, "top/link")]),
    "a hard link points elsewhere": (edit("top/same", linkname="top/b"), [(ALTERED_MEMBER, "top/same")]),
    "a file became a folder": (
        both(rewrite("top/sub/caf\u00e9", lambda d: b""), edit("top/sub/caf\u00e9", type=tarfile.DIRTYPE)),
        [(ALTERED_MEMBER, "top/sub/caf\u00e9")],
    ),
    "two members differ": (
        both(rewrite("top/a", lambda d: b""), rewrite("top/b", lambda d: b"")),
        [(ALTERED_MEMBER, "top/a"), (ALTERED_MEMBER, "top/b")],
    ),
    "a member is gone": (drop("top/b"), [(MISSING_MEMBER, "top/b")]),
    "an empty folder is gone": (
        drop("top/sub/caf\u00e9", "top/sub"),
        [(MISSING_MEMBER, "top/sub"), (MISSING_MEMBER, "top/sub/caf\u00e9")],
    ),
    "a member is new": (add("top/new"), [(EXTRA_MEMBER, "top/new")]),
    "a member has another name": (edit("top/b", name="top/c"), [(EXTRA_MEMBER, "top/c"), (MISSING_MEMBER, "top/b")]),
    "a device was slipped in": (
        lambda c: c.remake(lambda m: {**m, "null": (_device(), b"")}),
        [(EXTRA_MEMBER, "null")],
    ),
    "the manifest in the store is cut": (put(manifest=lambda c: (c.manifest or b"")[:-5]), [(ALTERED_MANIFEST, NAME)]),
    "the manifest in the store is no JSON": (put(manifest=lambda c: b"nonsense"), [(ALTERED_MANIFEST, NAME)]),
    "the manifest in the store was edited": (
        put(manifest=lambda c: (c.manifest or b"").replace(b"before the move", b"after the move!")),
        [(ALTERED_MANIFEST, NAME)],
    ),
    "the manifest in the store was edited and sealed again": (
        put(manifest=lambda c: resealed(c.manifest or b"", name="after")),
        [(ALTERED_MANIFEST, "manifest.json")],
    ),
    "the manifest in the store is the one of the archive": (
        put(manifest=lambda c: resealed(c.manifest or b"", archive=None)),
        [(ALTERED_MANIFEST, NAME)],
    ),
    "the manifest in the archive was edited": (
        rewrite("manifest.json", lambda d: d.replace(b"before the move", b"after the move!")),
        [(ALTERED_MANIFEST, "manifest.json"), (ALTERED_MEMBER, "manifest.json")],
    ),
    "the manifest in the archive was sealed again": (
        rewrite("manifest.json", lambda d: resealed(d, description="mine")),
        [(ALTERED_MANIFEST, "manifest.json"), (ALTERED_MEMBER, "manifest.json")],
    ),
    "the manifest in the archive is gone": (drop("manifest.json"), [(MISSING_MEMBER, "manifest.json")]),
    "the metadata differ": (
        rewrite("backup_metadata.json", lambda d: d + b" "),
        [(ALTERED_MEMBER, "backup_metadata.json")],
    ),
    "the metadata are gone": (drop("backup_metadata.json"), [(MISSING_MEMBER, "backup_metadata.json")]),
    "a sum of a part differs": (
        rewrite("SHA256SUMS", lambda d: d.replace(b"  top/a", b"  top/A")),
        [(ALTERED_MEMBER, "SHA256SUMS")],
    ),
    "a sum of ours differs": (
        rewrite("SHA256SUMS", lambda d: b"0" * 64 + d[64:]),
        [(ALTERED_MEMBER, "backup_metadata.json")],
    ),
    "the sums are gone": (drop("SHA256SUMS"), [(MISSING_MEMBER, "SHA256SUMS")]),
    "noise instead of an archive": (
        put(archive=lambda c: random.Random(2).randbytes(len(c.archive or b""))),
        [(UNREADABLE, NAME)],
    ),
    "a page instead of an archive": (put(archive=lambda c: b"<html>404 Not Found</html>\n" * 99), [(UNREADABLE, NAME)]),
    "gzip of something else": (
        put(archive=lambda c: gzip.compress(random.Random(2).randbytes(200_000))),
        [(UNREADABLE, NAME)],
    ),
    "the archive of another backup": (put(archive=lambda c: c.other.path.read_bytes()), [(WRONG_ARCHIVE, NAME)]),
    "the manifest of another backup": (
        put(manifest=lambda c: c.other.manifest_bytes),
        [(WRONG_ARCHIVE, NAME), (WRONG_ARCHIVE, NAME)],
    ),
    "another backup, whole, under this name": (
        put(archive=lambda c: c.other.path.read_bytes(), manifest=lambda c: c.other.manifest_bytes),
        [(WRONG_ARCHIVE, NAME)],
    ),
    "compressed again": (
        put(archive=lambda c: gzip.compress(gzip.decompress(c.archive or b""))),
        [(ALTERED_ARCHIVE, NAME)],
    ),
    "a bit of gzip's header": (flip(4), [(ALTERED_ARCHIVE, NAME)]),
    "the same members, made again": (lambda c: c.remake(lambda m: None), [(ALTERED_ARCHIVE, NAME)]),
    "something follows": (put(archive=lambda c: (c.archive or b"") + b"x"), [(UNREADABLE, NAME)]),
    "sound, but no manifest and a new member": (
        both(add("top/new"), put(manifest=lambda c: None)),
        [(MISSING_MANIFEST, NAME), (EXTRA_MEMBER, "top/new")],
    ),
}


def _device() -> tarfile.TarInfo:
    member = tarfile.TarInfo("null")
    member.type = tarfile.CHRTYPE
    return member


@pytest.mark.parametrize(("damage", "expected"), MATRIX.values(), ids=MATRIX.keys())
def test_every_damage_has_its_word(copy: Copy, damage: Callable[[Copy], None], expected: list[tuple[str, str]]) -> None:
    damage(copy)
    found = copy.found()
    assert found == expected
    assert {verdict for verdict, _ in found} <= set(VERDICTS)


def test_the_matrix_has_every_word() -> None:
    assert {verdict for _, expected in MATRIX.values() for verdict, _ in expected} == set(VERDICTS)


def test_the_list_in_the_archive_is_checked(archives: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scriptorium.members.ledger.INLINE", 3)
    (tmp_path / "root").mkdir()
    for number in range(9):
        (tmp_path / "root" / str(number)).write_text(str(number))
    packed = archives.pack(Tree(str(tmp_path / "root"), "top"), name=NAME.rpartition("/")[2])
    copy = Copy(packed, packed)
    rewrite("files.jsonl", lambda data: data.replace(b"top/5", b"top/x"))(copy)
    assert copy.found() == [(ALTERED_MEMBER, "files.jsonl")]
    rewrite("top/4", lambda data: b"?")(copy)
    assert (ALTERED_MEMBER, "files.jsonl") in copy.found()


@pytest.mark.parametrize("compression", list(Compression))
def test_every_flipped_bit_is_found(archives: Any, tmp_path: Path, compression: Compression) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "noise").write_bytes(random.Random(3).randbytes(30_000))
    (tmp_path / "root" / "words").write_text("words and words " * 3_000)
    packed = archives.pack(Tree(str(tmp_path / "root"), "top"), compression=compression)
    name = packed.path.name
    archive, record = packed.path.read_bytes(), packed.manifest_bytes
    chance = random.Random(11)
    assert verify_copy(lambda: io.BytesIO(archive), record, name=name) == ()
    for _ in range(120):
        broken = bytearray(archive)
        place = chance.randrange(len(archive) * 8)
        broken[place // 8] ^= 1 << place % 8
        assert verify_copy(lambda broken=broken: io.BytesIO(broken), record, name=name), f"bit {place} of the archive"
    for _ in range(40):
        broken = bytearray(record)
        place = chance.randrange(len(record) * 8)
        broken[place // 8] ^= 1 << place % 8
        found = verify_copy(lambda: io.BytesIO(archive), bytes(broken), name=name)
        assert found and found[0].verdict == ALTERED_MANIFEST, f"bit {place} of the manifest"


def test_a_store_that_stops_sending_is_no_damage(copy: Copy) -> None:
    assert copy.archive is not None
    size = len(copy.archive)
    cut(5000)(copy)
    with pytest.raises(StoreUnavailable):
        copy.found(size=size)


def test_a_store_that_fails_in_the_middle_is_no_damage(copy: Copy) -> None:
    class Failing(io.BytesIO):
        def read(self, count: int | None = -1) -> bytes:
            if self.tell() > 0:
                raise StoreUnavailable("the connection broke")
            return super().read(1000)

    with pytest.raises(StoreUnavailable):
        verify_copy(lambda: Failing(copy.archive or b""), copy.manifest, name=NAME)


def test_the_stream_is_closed(copy: Copy) -> None:
    stream = io.BytesIO(copy.archive or b"")
    verify_copy(lambda: stream, copy.manifest, name=NAME)
    assert stream.closed


def test_the_outcome_is_kept_in_words(copy: Copy) -> None:
    rewrite("top/b", lambda data: data[:-1])(copy)
    outcome = verified(lambda: io.BytesIO(copy.archive or b""), copy.manifest, name=NAME)
    assert not outcome.sound and 0 < outcome.seconds < 60
    assert outcome.damage[0].startswith("altered member: top/b (size should be 60000, is 59999, sha256 should be ")


def test_the_manifest_in_the_archive_is_the_one_beside_it_without_the_archive(copy: Copy) -> None:
    inner = manifest.loads(extract_member(io.BytesIO(copy.archive or b""), "manifest.json"))
    assert inner.archive is None
    assert inner == dataclasses.replace(copy.packed.manifest, archive=None, files=inner.files)
    assert inner.files.sha256 == copy.packed.manifest.files.sha256
