"""The manifest: what is written is what is read, and every flipped bit is found."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import subprocess
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scriptorium.errors import DamageFound, ToolMissing
from scriptorium.manifest import (
    annotations_key,
    archive_name,
    dumps,
    dumps_annotations,
    entry_line,
    file_list,
    loads,
    loads_annotations,
    manifest_key,
    new_id,
    parse_entry_line,
    uncompared,
    unrecorded,
)
from scriptorium.model import (
    Annotations,
    ArchiveRecord,
    FileEntry,
    FileList,
    Manifest,
    Part,
    Provenance,
    TableFingerprint,
    Verification,
)
from scriptorium.words import BackupType, Compression, Tier

FIXED_TIME = datetime(2026, 3, 29, 2, 30, tzinfo=UTC)
ENTRIES = (
    FileEntry("data", "folder", 0, 0o755, 1_700_000_000_123_456_789),
    FileEntry("data/caf\u00e9.txt", "file", 5, 0o640, -1, "ab" * 32),
    FileEntry("data/\udcff\n \\", "file", 0, 0o4755, 5_000_000_000_000_000_000, "cd" * 32),
    FileEntry("data/link", "symlink", 0, 0o777, 0, None, "../\udc80"),
    FileEntry("data/again", "hardlink", 0, 0o640, 0, None, "data/caf\u00e9.txt"),
)


def example(**changes: object) -> Manifest:
    part = Part(
        source="graph",
        kind="kuzu",
        path="data/kuzu/\udcfe.db",
        bytes=165_000_000,
        files=2,
        started_at=FIXED_TIME,
        finished_at=FIXED_TIME + timedelta(seconds=3.25),
        method="snapshot",
        engine_version="0.11.3",
        tables={"Book": TableFingerprint(2000, "f" * 64)},
        export="data/kuzu-export",
    )
    whole = Manifest(
        id=new_id(),
        library="bibliotheca",
        preset=None,
        type=BackupType.FULL,
        tier=Tier.BEFORE_RESTORE,
        name="caf\u00e9 \U0001f4da",
        description="two\nlines",
        created_at=FIXED_TIME,
        finished_at=FIXED_TIME,
        host="shelf",
        scriptorium_version="0.1.0",
        tools={"kuzu": "0.11.3", "python": "3.11"},
        parts=(part, dataclasses.replace(part, tables=None, engine_version=None, export=None)),
        files=file_list(ENTRIES),
        archive=ArchiveRecord("full.tar.gz", 12, "e" * 64, Compression.GZIP),
        warnings=("data/x: a socket, skipped",),
    )
    return dataclasses.replace(whole, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"archive": None},
        {"files": file_list(())},
        {"files": FileList(20_000, "a" * 64, None, "files.jsonl")},
        {"parts": (), "warnings": (), "tools": {}},
        {
            "parts": (
                dataclasses.replace(example().parts[0], missing_fingerprints={"Person": "too big", "": "no memory"}),
            )
        },
        {
            "parts": (
                dataclasses.replace(example().parts[0], provenance=Provenance(adopted=True, trusted=True, script=True)),
                dataclasses.replace(example().parts[0], provenance=Provenance(streamed=True, dumper="15.6")),
            ),
            "original_sha256": "5" * 64,
        },
    ],
    ids=["whole", "inner", "no files", "pointer", "empty", "missing fingerprints", "adopted"],
)
def test_what_is_written_is_read(changes: dict[str, object]) -> None:
    written = example(**changes)
    assert loads(dumps(written)) == written
    assert dumps(loads(dumps(written))) == dumps(written)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("epoch copy", Provenance()),
        ("pg_dump 15.6, one snapshot", Provenance(dumper="15.6")),
        ("pg_dump 15.6, one snapshot, streamed", Provenance(dumper="15.6", streamed=True)),
        ("adopted (zip, full)", Provenance(adopted=True)),
        ("adopted (tar); not opened", Provenance(adopted=True, unopened=True)),
        ("adopted (pg_dump 18.4, custom format)", Provenance(adopted=True, dumper="18.4")),
        ("adopted (pg_dump, SQL)", Provenance(adopted=True, script=True)),
        ("adopted (pg_dump 16.1, SQL); trusted", Provenance(adopted=True, trusted=True, script=True, dumper="16.1")),
    ],
)
def test_how_a_part_was_made_is_read_from_the_method_of_an_older_manifest(method: str, expected: Provenance) -> None:
    older = example(parts=(dataclasses.replace(example().parts[0], method=method),))
    text = dumps(older)
    assert loads(text).parts[0].provenance == Provenance(), "where the field is there, the text is for people alone"
    assert loads(without(text, b'      "provenance": {}')).parts[0].provenance == expected


def test_the_adopted_archive_is_read_from_the_description_of_an_older_manifest() -> None:
    message = f"full; adopted from old.zip (sha256 {'7' * 64})"
    text = dumps(example(description=message, parts=(example().parts[0],)))
    assert loads(text).original_sha256 == ""
    assert loads(without(text, b'      "provenance": {}')).original_sha256 == "7" * 64
    plain = dumps(example(parts=(example().parts[0],)))
    assert loads(without(plain, b'      "provenance": {}')).original_sha256 == ""


def without(text: bytes, line: bytes) -> bytes:
    """The manifest as it was written before there was that field, sealed."""
    body = text[: text.rindex(b'  "checksum"')]
    assert line in body
    body = body.replace(line + b",\n", b"").replace(b",\n" + line, b"")
    return body + f'  "checksum": "{hashlib.sha256(body).hexdigest()}"\n}}\n'.encode()


def test_fields_are_those_of_the_contract() -> None:
    record = json.loads(dumps(example()))
    names = "version id library preset type tier name description created_at finished_at host scriptorium_version tools"
    assert {*names.split(), "parts", "files", "archive", "warnings", "checksum"} == set(record)
    assert record["created_at"] == "2026-03-29T02:30:00Z"
    assert set(record["archive"]) == {"name", "bytes", "sha256", "compression", "encryption"}
    assert record["files"][1]["path"] == "data/caf\u00e9.txt"
    assert record["files"][2]["path"] == "data/\\xff\n \\"
    assert record["files"][2]["mtime"] == "5000000000.000000000"
    assert "archive" not in json.loads(dumps(example(archive=None)))


def test_missing_fingerprints_are_named_only_if_some_are_missing() -> None:
    whole = example().parts[0]
    assert "missing_facts" not in json.loads(dumps(example()))["parts"][0]
    assert uncompared(whole) == () and unrecorded(example()) == ("graph",)  # its second part
    some = dataclasses.replace(whole, missing_fingerprints={"Tag": "its name"})
    assert unrecorded(example(parts=(some,))) == () and uncompared(some) == ("graph, Tag: its name",)
    assert uncompared(some, {"Book": "memory"}) == ("graph, Tag: its name", "graph, Book: memory")
    nothing = dataclasses.replace(whole, tables={}, missing_fingerprints={"": "memory"})
    assert unrecorded(example(parts=(nothing,))) == ("graph",) and uncompared(nothing) == ("graph: memory",)


def test_the_checksum_can_be_checked_with_plain_tools(tmp_path: Path) -> None:
    file = tmp_path / "m.json"
    file.write_bytes(dumps(example()))
    command = f"head -n -2 {file} | sha256sum"
    message = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout.split()[0]
    assert json.loads(file.read_bytes())["checksum"] == message


def test_every_flipped_bit_is_found() -> None:
    data = dumps(example())
    for place in range(len(data) * 8):
        broken = bytearray(data)
        broken[place // 8] ^= 1 << place % 8
        with pytest.raises(DamageFound):
            loads(bytes(broken))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data + b"\n",
        lambda data: data[: len(data) // 2],
        lambda data: json.dumps(json.loads(data)).encode(),
        lambda data: data.replace("\u00e9".encode(), b"\\u00e9"),
        lambda data: data.replace(b"  ", b" ", 1),
        lambda data: b"[" * 100_000,
        lambda data: b"\xff\xfe",
        lambda data: b"null",
    ],
)
def test_other_bytes_are_damage(damage: object) -> None:
    data = dumps(example())
    broken = damage(data)  # type: ignore[operator]
    assert broken != data
    with pytest.raises(DamageFound):
        loads(broken)


def resealed(data: bytes, old: bytes, new: bytes) -> bytes:
    """The document with other contents and a matching checksum: the type checks alone must find it."""
    assert old in data
    body = data.replace(old, new, 1).rpartition(b'  "checksum"')[0]
    return body + b'  "checksum": "%s"\n}\n' % hashlib.sha256(body).hexdigest().encode()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"id": "', b'"ID": "'),
        (b'"id": "', b'"id": "not hex '),
        (b'"type": "full"', b'"type": "half"'),
        (b'"tier": "before-restore"', b'"tier": 4'),
        (b'"created_at": "2026-03-29T02:30:00Z"', b'"created_at": "yesterday"'),
        (b'"created_at": "2026-03-29T02:30:00Z"', b'"created_at": "2026-03-29T02:30:00"'),
        (b'"parts": [', b'"parts": [7,'),
        (b'"rows": 2000', b'"rows": "2000"'),
        (b'"bytes": 165000000', b'"bytes": -1'),
        (b'"bytes": 165000000', b'"bytes": true'),
        (b'"warnings": [', b'"warnings": [1,'),
        (b'"files": [', b'"files": 7, "x": ['),
        (b'"kind": "folder"', b'"kind": "door"'),
        (b'"mode": "0755"', b'"mode": "9"'),
        (b'"mtime": "1700000000.123456789"', b'"mtime": "1700000000.5"'),
        (b'"path_base64": "', b'"path_base64": "!'),
        (b'"sha256": "abab', b'"sha256": "ABAB'),
        (b'"compression": "gzip"', b'"compression": "lz4"'),
        (b'"tools": {', b'"tools": [], "y": {'),
    ],
)
def test_wrong_fields_under_a_good_seal_are_damage(old: bytes, new: bytes) -> None:
    with pytest.raises(DamageFound):
        loads(resealed(dumps(example()), old, new))


def test_a_newer_version_asks_for_a_newer_program() -> None:
    newer = resealed(dumps(example()), b'"version": 1', b'"version": 2')
    with pytest.raises(ToolMissing, match="version 2"):
        loads(newer)


def test_an_additional_field_does_no_harm() -> None:
    written = example()
    assert loads(resealed(dumps(written), b'"id":', b'"colour": "blue",\n  "id":')) == written


names = st.text(st.characters(codec=None, exclude_categories=["Cs"]), min_size=1) | st.binary(min_size=1).map(
    lambda raw: raw.decode("utf-8", "surrogateescape")
)
entries = st.builds(
    FileEntry,
    path=names,
    kind=st.sampled_from(["file", "folder", "symlink", "hardlink"]),
    size=st.integers(0, 2**63),
    mode=st.integers(0, 0o7777),
    mtime_ns=st.integers(-(2**63), 2**63),
    sha256=st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex),
    target=st.none() | names,
)


@given(entries)
def test_a_line_holds_the_whole_entry(entry: FileEntry) -> None:
    line = entry_line(entry)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert parse_entry_line(line) == entry


@given(st.lists(entries, max_size=4))
def test_any_file_list_survives(found: list[FileEntry]) -> None:
    written = example(files=file_list(found))
    assert loads(dumps(written)) == written


def test_the_list_has_the_hash_of_its_lines() -> None:
    assert file_list(ENTRIES).sha256 == hashlib.sha256(b"".join(map(entry_line, ENTRIES))).hexdigest()


@pytest.mark.parametrize(
    "annotations",
    [
        Annotations(),
        Annotations(pinned=True),
        Annotations(verification=Verification(FIXED_TIME, False, ("altered member: a\u00e9",), 1.25)),
    ],
)
def test_annotations(annotations: Annotations) -> None:
    assert loads_annotations(dumps_annotations(annotations)) == annotations
    data = dumps_annotations(annotations)
    place = random.Random(3).randrange(len(data))
    with pytest.raises(DamageFound):
        loads_annotations(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])


@pytest.mark.parametrize(
    ("type", "compression", "kind", "tie", "name"),
    [
        (BackupType.FULL, Compression.GZIP, None, 0, "full_20260329_003000.tar.gz"),
        (BackupType.DATA, Compression.ZSTD, "kuzu", 1, "data_20260329_003000.tar.zst"),
        (BackupType.DATABASE, Compression.GZIP, "kuzu", 2, "kuzu_20260329_003000-2.tar.gz"),
        (BackupType.DATABASE, Compression.NONE, "postgres", 3, "db_20260329_003000-3.tar"),
        (BackupType.DATABASE, Compression.GZIP, None, 0, "db_20260329_003000.tar.gz"),
        (BackupType.CONFIG, Compression.GZIP, None, 0, "config_20260329_003000.tar.gz"),
    ],
)
def test_archive_names(type: BackupType, compression: Compression, kind: str | None, tie: int, name: str) -> None:
    summer = datetime(2026, 3, 29, 2, 30, tzinfo=timezone(timedelta(hours=2)))
    assert archive_name(type, summer, compression, kind, tie) == name
    assert manifest_key(name) == f"{name}.json"
    assert annotations_key(name) == f"{name}.marks.json"


def test_ids_are_12_hex_digits_and_differ() -> None:
    made = {new_id() for _ in range(1000)}
    assert len(made) == 1000
    assert all(len(word) == 12 and set(word) <= set("0123456789abcdef") for word in made)
