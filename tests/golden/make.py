"""Makes the golden archives of a version: ``python tests/golden/make.py``, once, when the version is new.

What it wrote is committed and never made again: the test beside it reads every version for ever. So this refuses to
touch a folder that is there. The trees are made in a fixed place, with fixed times, under a fixed host's name.
"""

# Names are bytes here, which Path cannot hold.
# ruff: noqa: PTH101, PTH102, PTH103, PTH115, PTH118, PTH120, PTH123, PTH211

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import stat
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from scriptorium import __version__, quiesce
from scriptorium.archive import pack
from scriptorium.archive.verification import verified
from scriptorium.manifest import VERSION, archive_name
from scriptorium.members import ledger
from scriptorium.model import Annotations, FileList, Manifest, Staged
from scriptorium.sources import FilesSource, KuzuSource
from scriptorium.stores import LocalStore
from scriptorium.stores.objects.archive_package import ArchivePackage
from scriptorium.words import BackupType, Compression, Tier

HERE = Path(__file__).parent
SCRATCH = Path("/tmp/scriptorium-golden")  # the archives contain this path
FIXED_TIME = datetime(2026, 3, 1, 2, 3, 4, tzinfo=UTC)
LARGEST = 100_000
SECOND = 10**9
Entry = dict[str, object]

# name (bytes), contents, mode, mtime in nanoseconds
FILES: tuple[tuple[bytes, bytes, int, int], ...] = (
    (b"plain.txt", b"plain\n", 0o644, 1_700_000_000 * SECOND + 123_456_789),
    (b"empty", b"", 0o600, 0),
    (b"two words", b"a space in the name\n", 0o640, 1 * SECOND),
    (b"-", b"a dash\n", 0o644, 2 * SECOND),
    (b"new\nline", b"a newline in the name\n", 0o644, 3 * SECOND),
    (b"back\\slash", b"a backslash in the name\n", 0o644, 4 * SECOND),
    (b'quo"te', b"a quotation mark in the name\n", 0o644, 5 * SECOND),
    ("Bücher, 本, \U0001f4da".encode(), b"names beyond ASCII\n", 0o644, 6 * SECOND),
    (b"latin-1-b\xfccher", b"bytes that are not UTF-8\n", 0o644, 7 * SECOND),
    (b"before-1970", b"a time before 1970\n", 0o444, -1_500_000_000),
    (b"after-2038", b"a time after 2038\n", 0o755, 4_000_000_000 * SECOND + 1),
    (b"l" * 150, b"a long name\n", 0o644, 9 * SECOND),
    (b"deep/" + b"/".join([b"d" * 60] * 4) + b"/file", b"a long path\n", 0o644, 10 * SECOND),
)
ZEROS = (b"zeros", bytes(200_000), 0o644, 8 * SECOND)
FOLDERS: tuple[tuple[bytes, int, int], ...] = (
    (b"empty-folder", 0o755, 11 * SECOND),
    (b"private", 0o700, 12 * SECOND + 987_654_321),
)
LINKS: tuple[tuple[bytes, bytes], ...] = (
    (b"link", b"plain.txt"),
    (b"dangling", b"/nowhere/at all"),
    (b"up", b"../../outside"),
    (b"link-latin-1", b"latin-1-b\xfccher"),
)


def main() -> None:
    target = HERE / f"version-{VERSION}"
    if target.exists():
        sys.exit(f"{target} is there already, and golden archives are never made again")
    shutil.rmtree(SCRATCH, ignore_errors=True)
    home = SCRATCH / "library"
    expected: dict[str, object] = {}
    try:
        tables = make_library(home, books=7)
        empty = make_library(SCRATCH / "empty" / "library", books=0)  # a Kuzu file with a row has a megabyte
        for place, (compression, many, rows, of) in enumerate(
            (
                (Compression.GZIP, False, tables, home),
                (Compression.ZSTD, False, tables, home),
                (Compression.NONE, False, empty, SCRATCH / "empty" / "library"),
                (Compression.GZIP, True, tables, home),  # the list of files in a member of its own
            )
        ):
            name, properties = make_backup(target, of, compression, FIXED_TIME + timedelta(days=place), many=many)
            expected[name] = {**properties, "rows": rows, "entries": picture(of)}
        (target / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=True) + "\n")
    finally:
        shutil.rmtree(SCRATCH, ignore_errors=True)
    for file in sorted(target.rglob("*")):
        if file.is_file():
            sys.stdout.write(f"{file.stat().st_size:>8}  {file.relative_to(HERE)}\n")
            assert file.stat().st_size < LARGEST or file.name == "expected.json", file


def make_library(home: Path, books: int) -> dict[str, int]:
    """A tree with everything odd, and a database; returns the rows of its tables."""
    odd = os.fsencode(home / "data" / "odd")
    many = (*FILES, ZEROS) if books else FILES[:-2]
    for name, contents, _, _ in many:
        path = os.path.join(odd, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(contents)
    for name, mode, _ in FOLDERS:
        os.mkdir(os.path.join(odd, name), mode)
    for name, to in LINKS:
        os.symlink(to, os.path.join(odd, name))
    os.link(os.path.join(odd, b"plain.txt"), os.path.join(odd, b"second-name"))
    (home / "data" / "kuzu").mkdir()
    rows = make_database(home / "data" / "kuzu" / "bibliotheca.db", books)
    (home / "config.py").write_text("DEBUG = False\n")
    (home / ".env").write_text("SECRET_KEY=not-a-secret\n")
    settle_times(home)
    for name, _, mode, when in many:
        os.chmod(os.path.join(odd, name), mode)
        os.utime(os.path.join(odd, name), ns=(when, when))
    for name, mode, when in FOLDERS:
        os.chmod(os.path.join(odd, name), mode)
        os.utime(os.path.join(odd, name), ns=(when, when))
    (home / ".env").chmod(0o600)
    return rows


def settle_times(home: Path) -> None:
    when = int(FIXED_TIME.timestamp()) * SECOND
    for folder, folders, files in os.walk(os.fsencode(home), topdown=False):
        for name in (*folders, *files, b"."):
            os.utime(os.path.join(folder, name), ns=(when, when), follow_symlinks=False)


def make_database(file: Path, books: int) -> dict[str, int]:
    import kuzu

    database = kuzu.Database(str(file), buffer_pool_size=64 << 20)
    connection = kuzu.Connection(database)
    for statement in (
        "CREATE NODE TABLE Book(id STRING, title STRING, pages INT64, rating DOUBLE, tags STRING[], added TIMESTAMP, "
        "PRIMARY KEY(id))",
        "CREATE NODE TABLE Person(id STRING, name STRING, PRIMARY KEY(id))",
        "CREATE REL TABLE AUTHORED(FROM Person TO Book, role STRING)",
        f"UNWIND range(1, {books}) AS i CREATE (:Book {{id: CAST(i AS STRING), title: 'Bücher „' + CAST(i AS STRING), "
        "pages: i * 100, rating: i / 3.0, tags: ['a', '', CAST(i AS STRING)], added: timestamp('2026-01-01')})",
        f"UNWIND range(1, {books // 2}) AS i CREATE (:Person {{id: CAST(i AS STRING), name: ''}})",
        "MATCH (p:Person), (b:Book) WHERE p.id = b.id CREATE (p)-[:AUTHORED]->(b)",
        "CHECKPOINT",
    ):
        connection.execute(statement)
    connection.close()
    database.close()
    return {"Book": books, "Person": books // 2, "AUTHORED": books // 2}


def make_backup(
    target: Path, home: Path, compression: Compression, instant: datetime, *, many: bool
) -> tuple[str, dict[str, str]]:
    """One backup in the store ``target``; returns its archive's name and what must be read back from its manifest."""
    stage = SCRATCH / "stage"
    stage.mkdir()
    sources = (
        KuzuSource(name="kuzu", path=home / "data/kuzu/bibliotheca.db", at="data/kuzu/bibliotheca.db"),
        FilesSource(name="data", path=home / "data", at="data", exclude=("/kuzu/bibliotheca.db",)),
        FilesSource(name="config", path=home, at="", include=("/config.py", "/.env")),
    )
    staged: list[Staged] = []
    for source in sources:
        (stage / source.name).mkdir()
        staged.append(quiesce.snapshot(source, stage / source.name, ()))
    staged[1] = replace(staged[1], warnings=("data/odd/gone: vanished before it was read",))
    draft = Manifest(
        id=hashlib.sha256(instant.isoformat().encode()).hexdigest()[:12],
        library="bibliotheca",
        preset="bibliotheca",
        type=BackupType.FULL,
        tier=Tier.MONTHLY,
        name=f"golden, {compression}, „quoted“",
        description="one of the archives that every later version must read",
        created_at=instant,
        finished_at=instant,
        host="golden.example",
        scriptorium_version=__version__,
        tools={"kuzu": "0.11.3"},
        parts=(),
        files=FileList(0, hashlib.sha256().hexdigest(), ()),
        archive=None,
    )
    archive = stage / archive_name(draft.type, instant, compression, "kuzu")
    inline = ledger.INLINE
    try:
        ledger.INLINE = 5 if many else inline
        manifest = pack(archive, draft, staged, compression, spool=stage)
    finally:
        ledger.INLINE = inline
    store = LocalStore(path=target)
    key = store.put(ArchivePackage(archive, manifest)).key
    outcome = verified(lambda: store.open(key), store.read_bytes(f"{key}.json"), name=archive.name)
    assert outcome.sound, outcome.damage
    store.annotate(key, Annotations(pinned=True, verification=replace(outcome, at=instant, seconds=0.5)))
    shutil.rmtree(stage)
    properties = {"id": draft.id, "name": draft.name, "created_at": instant.isoformat(), "tier": draft.tier.value}
    return archive.name, properties


def picture(home: Path) -> list[Entry]:
    """What a restore must bring back, read from the disk and not from any manifest; paths as base64.

    The database itself is left out: its bytes are the snapshot's, its contents are compared by tables.
    """
    top = os.fsencode(home)
    first: dict[int, bytes] = {}
    found = []
    for folder, folders, files in os.walk(top):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = os.path.join(folder, name)
            inside = path[len(top) + 1 :]
            if inside.startswith(b"data/kuzu"):
                continue
            status = os.lstat(path)
            entry: Entry = {"path": base64.b64encode(inside).decode(), "mode": stat.S_IMODE(status.st_mode)}
            entry["mtime_ns"] = status.st_mtime_ns
            if stat.S_ISLNK(status.st_mode):
                entry["target"] = base64.b64encode(os.readlink(path)).decode()
            elif stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    entry["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
                if status.st_nlink > 1:
                    entry["same_as"] = base64.b64encode(first.setdefault(status.st_ino, inside)).decode()
            found.append(entry)
    return found


if __name__ == "__main__":
    main()
