"""docs/format.md is complete: every key of real documents is explained there, and every key that it names occurs."""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import real_backup

from scriptorium.archive.verification import VERDICTS
from scriptorium.catalog import Catalog
from scriptorium.manifest import dumps, dumps_annotations
from scriptorium.members import ledger
from scriptorium.model import Annotations, Check, Manifest, Proof, Provenance, Unsaved, Verification
from scriptorium.words import Compression

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "format.md").read_text("utf-8")
FIXED_TIME = datetime(2026, 3, 1, 2, 0, 0, tzinfo=UTC)
Object = dict[str, Any]

_TABLE = re.compile(r"<!-- keys: (.+?) -->\n\| key \| type \| meaning \|\n\|---\|---\|---\|\n((?:\|.*\n)+)")
_ROW = re.compile(r"\| `(\w+)` \| ([^|]+?) \| (.+) \|$")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|\+00:00)\Z")
_HASH = re.compile(r"[0-9a-f]{64}\Z")

TYPES: dict[str, Callable[[Any], bool]] = {
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "time": lambda value: isinstance(value, str) and _TIME.match(value) is not None,
    "hash": lambda value: isinstance(value, str) and _HASH.match(value) is not None,
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
    "list of strings": lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
    "list of objects": lambda value: isinstance(value, list) and all(isinstance(item, dict) for item in value),
}


class Explained:
    """A key as the document explains it."""

    def __init__(self, kind: str) -> None:
        kind, _, absent = kind.partition(";")
        assert absent.strip() in ("", "may be absent"), kind
        self.optional = bool(absent)
        self.kinds = [word.strip() for word in re.split(r" or |, or ", kind)]
        assert set(self.kinds) <= TYPES.keys(), self.kinds

    def fits(self, value: Any) -> bool:
        return any(TYPES[kind](value) for kind in self.kinds)


def explained() -> dict[str, dict[str, Explained]]:
    """The tables of the document by name."""
    tables: dict[str, dict[str, Explained]] = {}
    for name, rows in _TABLE.findall(DOCUMENT):
        parsed = [_ROW.match(row) for row in rows.splitlines()]
        assert all(parsed), f"a row of '{name}' is not | `key` | type | meaning |"
        assert name not in tables
        tables[name] = {row[1]: Explained(row[2]) for row in parsed if row}
    return tables


TABLES = explained()


def odd(manifest: Manifest) -> Manifest:
    """The same with a part whose path is not UTF-8, which settings in TOML cannot name yet, and of no preset."""
    lost = [Unsaved(manifest.parts[0].source, path, "cannot be read (x), skipped") for path in ("caf\udce9/a", "b")]
    part = replace(
        manifest.parts[0],
        path="caf\udce9",
        export="exports/caf\udce9",
        export_lacks=("comment of Book",),
        missing_fingerprints={"Book": "too little memory"},
        unsaved=tuple(lost),
        unsaved_count=2,
        holes=4096,
        provenance=Provenance(True, True, True, True, True, "15.6", ("amcheck",)),
    )
    assert manifest.archive is not None
    old = replace(manifest.archive, index=())
    return replace(manifest, parts=(part,), archive=old, checks=(), preset=None, original_sha256="0" * 64)


def proven(instant: datetime, *, uncompared: bool = False) -> Annotations:
    proof = Proof(instant, "local", False, 1.5, 60.0, 9, 1000, 3, 70, (Check("owners", True),), ("Book: 1 row",))
    proof = replace(proof, uncompared=("db: x",), before=("Book: 2 rows",)) if uncompared else proof
    unopened = "no key" if uncompared else ""
    return Annotations(True, Verification(instant, False, ("truncated: x",), 0.5, unopened), proof)


@pytest.fixture
def found(place: Any, archives: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Object]]:
    """Objects as they are really written, under the names of the document's tables."""
    (place.home / "data" / "uploads" / b"caf\xe9".decode("utf-8", "surrogateescape")).write_text("latin 1")
    (place.home / "data" / "link").symlink_to(b"caf\xe9".decode("utf-8", "surrogateescape"))
    (place.home / "data" / "second").hardlink_to(place.home / "data" / "uploads" / "notes.txt")
    first = real_backup.take(place.settings, FIXED_TIME)
    monkeypatch.setattr(ledger, "INLINE", 3)
    second = real_backup.take(place.settings, FIXED_TIME + timedelta(days=1), compression=Compression.NONE)
    Catalog(place.settings).backups()
    folder = place.backups / "bibliotheca"
    manifests = [json.loads((folder / f"{m.archive.name}.json").read_bytes()) for m in (first, second)]
    manifests.append(json.loads(dumps(odd(first))))
    metadata = []
    for one in (first, second):
        with tarfile.open(folder / one.archive.name) as tar:
            manifests.append(json.load(tar.extractfile("manifest.json")))
            metadata.append(json.load(tar.extractfile("backup_metadata.json")))
    annotations = [json.loads((folder / f"{m.archive.name}.marks.json").read_bytes()) for m in (first, second)]
    annotations += [
        json.loads(dumps_annotations(Annotations())),
        *(json.loads(dumps_annotations(proven(FIXED_TIME, uncompared=one))) for one in (True, False)),
    ]
    index = list(json.loads((place.backups / "backup_index.json").read_bytes()).values())
    objects = _sorted(manifests, metadata, annotations, index)
    with tarfile.open(folder / second.archive.name) as tar:
        objects["entry"] += [json.loads(line) for line in tar.extractfile("files.jsonl")]
    return objects


def _sorted(
    manifests: list[Object], metadata: list[Object], annotations: list[Object], index: list[Object]
) -> dict[str, list[Object]]:
    parts = [part for one in manifests for part in one["parts"]]
    proofs = [one["proof"] for one in annotations if "proof" in one]
    checked = [check for one in (*manifests, *proofs) for check in one.get("checks", ())]
    sources = [source for one in metadata for source in one["sources"]]
    return {
        "manifest": manifests,
        "part": parts,
        "provenance": [part["provenance"] for part in parts],
        "table": [table for part in parts for table in part.get("tables", {}).values()],
        "archive": [one["archive"] for one in manifests if "archive" in one],
        "unsaved": [one for each in manifests for one in each.get("unsaved", ())],
        "check": checked,
        "entry": [entry for one in manifests if isinstance(one["files"], list) for entry in one["files"]],
        "pointer": [one["files"] for one in manifests if isinstance(one["files"], dict)],
        "metadata": metadata,
        "source": sources,
        "tree": [tree for source in sources for tree in source["trees"]],
        "marks": annotations,
        "verification": [one["verification"] for one in annotations if one["verification"]],
        "proof": proofs,
        "index": index,
        "index metadata": [row["metadata"] for row in index],
    }


def _differences(name: str, objects: list[Object]) -> Iterator[str]:
    table = TABLES[name]
    assert objects, f"no '{name}' was written"
    for key in sorted({key for one in objects for key in one} - table.keys()):
        yield f"{name}: '{key}' occurs and is not explained"
    for key, explanation in table.items():
        values = [one[key] for one in objects if key in one]
        if not values:
            yield f"{name}: '{key}' is explained and never occurs"
        if not explanation.optional and len(values) < len(objects):
            yield f"{name}: '{key}' is absent somewhere"
        if explanation.optional and len(values) == len(objects):
            yield f"{name}: '{key}' is never absent"
        wrong = next((value for value in values if not explanation.fits(value)), None)
        if wrong is not None or (None in values and "null" not in explanation.kinds):
            yield f"{name}: '{key}' should be {' or '.join(explanation.kinds)}, is {wrong!r}"


def test_every_key_is_explained_and_every_explained_key_occurs(found: dict[str, list[Object]]) -> None:
    assert found.keys() == TABLES.keys()
    assert [line for name, objects in found.items() for line in _differences(name, objects)] == []


def test_the_canonical_form_is_the_one_that_is_described(found: dict[str, list[Object]], place: Any) -> None:
    """The lines as the document describes them, from the parsed entries alone."""
    manifest = next(one for one in found["manifest"] if isinstance(one["files"], dict) and "archive" in one)
    with tarfile.open(place.backups / "bibliotheca" / manifest["archive"]["name"]) as tar:
        data = tar.extractfile("files.jsonl").read()
    order = list(TABLES["entry"])
    lines = []
    for text in data.decode().splitlines():
        entry = json.loads(text)
        assert list(entry) == [key for key in order if key in entry], "the keys come in the order of the table"
        lines.append("{" + ", ".join(f"{_string(key)}: {_value(entry[key])}" for key in entry) + "}\n")
    assert "".join(lines).encode() == data
    assert manifest["files"] == {
        "member": "files.jsonl",
        "count": len(lines),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def _value(value: Any) -> str:
    return str(value) if isinstance(value, int) else _string(value)


def _string(text: str) -> str:
    short = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
    return '"' + "".join(short.get(c, c if ord(c) >= 0x20 else f"\\u{ord(c):04x}") for c in text) + '"'


def test_the_order_of_members_is_the_one_that_is_described(place: Any) -> None:
    manifest = real_backup.take(place.settings, FIXED_TIME)
    with tarfile.open(place.backups / "bibliotheca" / manifest.archive.name) as tar:
        names = tar.getnames()
    assert names[0] == "backup_metadata.json"
    assert names[-2:] == ["manifest.json", "SHA256SUMS"]
    assert names[1:-2] == [entry.path for entry in manifest.files.entries]


def test_every_verdict_is_named() -> None:
    assert [verdict for verdict in VERDICTS if f"*{verdict}*" not in DOCUMENT] == []


def test_a_key_that_is_forgotten_is_found() -> None:
    """The test above must be able to fail."""
    entry = {"path": "a", "kind": "file", "size": 1, "mode": "0644", "mtime": "1.000000000", "colour": "red"}
    differences = list(_differences("entry", [entry, {**entry, "size": "1", "sha256": "no"}]))
    assert "entry: 'colour' occurs and is not explained" in differences
    assert "entry: 'target' is explained and never occurs" in differences
    assert "entry: 'size' should be integer, is '1'" in differences
    assert "entry: 'sha256' should be hash, is 'no'" in differences
