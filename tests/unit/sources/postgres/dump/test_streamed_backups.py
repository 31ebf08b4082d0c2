"""Backups whose database was streamed: chosen if the disk is too small, of one snapshot, and nothing is left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
import real_backup
import streamed_library
from recipe_steps import after, before
from streamed_library import NAMED, NOW, ask, part_of, settings_for

from scriptorium import workspace
from scriptorium.errors import NoSpace, SourceUnavailable
from scriptorium.fs import free_space
from scriptorium.model import Manifest, Staged
from scriptorium.operations import backup
from scriptorium.operations.restore import restore
from scriptorium.requests import BackupRequest, RestoreRequest
from scriptorium.settings import Settings, load
from scriptorium.sources.postgres.source import PostgresSource
from scriptorium.words import Compression
from scriptorium.workspace.space import Space

MIB = 1 << 20
SHARED = Path(real_backup.__file__).parent
small_pieces, library = streamed_library.small_pieces, streamed_library.library  # fixtures of these tests


def test_a_streamed_part_is_described_like_a_staged_one(library, tmp_path):
    """The same tables, checks and warnings; the manifest is sound; the dump comes first, in pieces."""
    staged = real_backup.take(settings_for(library, tmp_path, "stage"), NOW)
    manifest = real_backup.take(settings_for(library, tmp_path), NOW + timedelta(days=1))
    assert part_of(manifest).tables == part_of(staged).tables
    assert manifest.checks == staged.checks and manifest.checks
    assert {check.name: check.good for check in manifest.checks}[NAMED]
    assert manifest.warnings == staged.warnings and manifest.tools == staged.tools
    assert part_of(manifest).method == f"{part_of(staged).method}, streamed"
    assert manifest.parts[0].source == "postgres"
    assert manifest.files.entries is not None
    name = library.rpartition("/")[2]
    paths = [entry.path for entry in manifest.files.entries if entry.path.startswith("postgres")]
    assert paths[:4] == ["postgres", "postgres/globals.sql", f"postgres/{name}", f"postgres/{name}/dump.000001"]
    assert paths == sorted(paths) and len(paths) > 10
    mine = [entry for entry in manifest.files.entries if entry.path.startswith("postgres") and entry.kind == "file"]
    assert (part_of(manifest).files, part_of(manifest).bytes) == (len(mine), sum(entry.size for entry in mine))
    assert {entry.mode for entry in mine} == {0o600}


def test_no_row_names_a_file_that_is_newer_than_the_files(library, tmp_path, monkeypatch):
    """The database is held still before the first file is read, whatever stands first in the settings."""
    file = tmp_path / "scriptorium.toml"
    file.write_text(
        f'[libraries.lib]\nsources = [{{ name = "files", kind = "files", path = "home/library" }},\n'
        f'{{ name = "db", kind = "postgres", database = "{library}", dump = "stream" }}]\n'
        '[stores.local]\nkind = "local"\npath = "backups"\n'
    )
    settings = load(file, {})

    def before_packing(_: object, __: object, staged: Sequence[Staged], *___: object, **____: object) -> None:
        assert [(one.source, one.pending, one.trees == ()) for one in staged] == [
            ("files", False, False),
            ("db", True, True),
        ]
        ask(library, "CREATE TABLE named AS SELECT 'Fiction/before'::text AS file")
        (tmp_path / "home/library/Fiction/before").touch()

    def meanwhile(_: int) -> None:
        if not (tmp_path / "home/library/Fiction/later").exists():
            (tmp_path / "home/library/Fiction/later").touch()
            ask(library, "INSERT INTO named VALUES ('Fiction/later')")

    before(monkeypatch, backup, "read_sources", before_packing)
    manifest = backup.backup(settings, BackupRequest(), now=NOW, advance=meanwhile).manifest
    assert [part.source for part in manifest.parts] == ["db", "files"]
    assert part_of(manifest).tables["public.named"].rows == 1
    assert manifest.files.entries is not None
    there = {entry.path for entry in manifest.files.entries}
    assert {"files/Fiction/before", "files/Fiction/later"} <= there


# --- what fits --------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Small filesystems."""
    made: list[Path] = []

    def mount(size: str) -> Path:
        folder = tmp_path / f"small{len(made)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "scriptorium-test", str(folder)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
            pytest.skip("a small filesystem can only be mounted by root, where mounting is allowed")
        made.append(folder)
        return folder

    yield mount
    for folder in made:
        subprocess.run(["umount", "-l", folder], check=True)


def large(url: str, megabytes: int) -> None:
    """Rows that take as much space on the server as in a dump, and hardly any in an archive."""
    ask(url, "CREATE TABLE large (id int, x text)")
    ask(url, "ALTER TABLE large ALTER COLUMN x SET STORAGE EXTERNAL")
    ask(url, f"INSERT INTO large SELECT g, repeat('x', 1048576) FROM generate_series(1, {megabytes}) g")


def test_a_short_disk_makes_the_dump_stream_past_it(server, new_database, tmp_path, small, monkeypatch):
    """A dump larger than the whole filesystem of the workspace, which is hardly used meanwhile."""
    url = new_database(server)
    large(url, 100)
    (tmp_path / "home" / "library").mkdir(parents=True)
    (tmp_path / "home" / "library" / "book").write_text("book")
    disk = small("80m")
    monkeypatch.setattr(PostgresSource, "piece", 4 * MIB)
    settings = settings_for(url, tmp_path, "auto", f'workspace = "{disk}/work"\nspace_factor = 0.02')
    used: list[int] = []
    found: list[Space] = []
    after(monkeypatch, backup, "check_space", found.append)
    request = BackupRequest(compression=Compression.ZSTD)
    manifest = backup.backup(
        settings, request, now=NOW, advance=lambda _: used.append(shutil.disk_usage(disk).used)
    ).manifest
    assert found[0].streamed == ("postgres",)
    assert part_of(manifest).bytes > 100 * MIB and part_of(manifest).tables["public.large"].rows == 100
    assert max(used) < 4 * MIB, f"{max(used):,} bytes of the workspace"
    assert (
        restore(settings, RestoreRequest(reference="latest", database=f"back_{server.port}")).restored.tables
        == part_of(manifest).tables
    )


def test_what_fits_is_staged_and_what_does_not_is_refused(library, tmp_path, small):
    size = PostgresSource(database=library).survey(()).bytes
    disk = small("120m")

    def asked(dump: str) -> Space:
        settings = settings_for(library, tmp_path, dump, f'workspace = "{disk}/work"\nspace_factor = 0.1')
        return backup.check_space(settings, backup.plan_backup(settings, BackupRequest(), now=NOW))

    assert asked("auto").streamed == asked("stage").streamed == ()
    assert asked("stream").streamed == ("postgres",)
    ballast = disk / "ballast"
    free = shutil.disk_usage(disk).free
    ballast.write_bytes(bytes(free - free_space.MARGIN - size))  # space for the archive, and for less than a dump
    assert asked("auto").streamed == asked("stream").streamed == ("postgres",)
    with pytest.raises(NoSpace) as caught:
        asked("stage")
    assert caught.value.exit_code == 7
    with ballast.open("ab") as more:
        more.write(bytes(size))
    for dump in ("auto", "stream"):
        with pytest.raises(NoSpace) as caught:
            asked(dump)
        assert "the backup needs" in caught.value.what and "there are" in caught.value.what
        assert caught.value.on.startswith(str(disk)) and caught.value.hint


def test_only_as_many_as_must_be_are_streamed_the_largest_first(server, new_database, tmp_path, monkeypatch):
    rows = []
    for name, megabytes in (("small", 1), ("big", 8), ("middle", 4)):
        url = new_database(server)
        large(url, megabytes)
        rows.append(f'{{ name = "{name}", kind = "postgres", database = "{url}" }}')
    file = tmp_path / "scriptorium.toml"
    file.write_text(
        f"space_factor = 0.1\n[libraries.lib]\nsources = [{', '.join(rows)}]\n"
        '[stores.local]\nkind = "local"\npath = "backups"\n'
    )
    settings = load(file, {})
    monkeypatch.setattr(workspace.space, "require_space", lambda *_: None)
    for free, streamed in ((24, ()), (10, ("big",)), (4, ("big", "middle")), (1, ("small", "big", "middle"))):
        monkeypatch.setattr(workspace.space, "has_space", lambda _, needed, free=free: needed <= free * MIB)
        assert backup.check_space(settings, backup.plan_backup(settings, BackupRequest())).streamed == streamed


def test_two_databases_and_their_files_in_one_archive(server, new_database, tmp_path):
    urls = [new_database(server, f"CREATE TABLE t AS SELECT {n} AS x, repeat('y', 9000)") for n in (1, 2)]
    (tmp_path / "data").mkdir()
    file = tmp_path / "scriptorium.toml"
    rows = [
        f'{{ name = "d{n}", kind = "postgres", database = "{url}", dump = "stream" }}' for n, url in enumerate(urls)
    ]
    file.write_text(
        f'[libraries.lib]\nsources = [{", ".join(rows)}, {{ name = "data", kind = "files", path = "data" }}]\n'
        '[stores.local]\nkind = "local"\npath = "backups"\n'
    )
    manifest = real_backup.take(load(file, {}), NOW)
    first, second, _ = manifest.parts
    assert first.tables != second.tables and first.tables and second.tables
    assert first.finished_at < second.finished_at


def test_a_second_try_takes_a_new_snapshot(library, server, tmp_path, monkeypatch):
    """What the archive's task does when a connection was lost: the same call once more."""
    settings = settings_for(library, tmp_path)
    ask(library, "CREATE TABLE tries AS SELECT 1 AS n")
    ask(library, "CREATE TABLE large AS SELECT g, repeat(md5(g::text), 99) FROM generate_series(1, 3000) g")

    def lose(_: int) -> None:
        ask(library, "INSERT INTO tries VALUES (2)")
        ask(
            server.address(),
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ '^scriptorium dump'",
        )

    pack = backup.read_sources

    def fail_first(
        settings: Settings, plan: backup.BackupPlan, staged: Sequence[Staged], folder: Path, *_: object, **__: object
    ) -> Manifest:
        with pytest.raises(SourceUnavailable):
            pack(settings, plan, staged, folder, advance=lose)
        assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [], "nothing incomplete is left"
        return pack(settings, plan, staged, folder)

    monkeypatch.setattr(backup, "read_sources", fail_first)
    manifest = backup.backup(settings, BackupRequest(), now=NOW).manifest
    tries = part_of(manifest).tables["public.tries"].rows
    assert tries > 1 and tries == ask(library, "SELECT count(*) FROM tries")[0][0]


TAKING = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from scriptorium.process import no_child_outlives
from scriptorium.settings import Settings, load
from scriptorium.sources import PostgresSource
sys.path.insert(0, sys.argv[1])
import real_backup
PostgresSource.piece = 1 << 20
with no_child_outlives():
    real_backup.take(load(Path(sys.argv[2]), {}), datetime.now(UTC))
"""


@pytest.mark.parametrize(
    ("point", "action"),
    [
        *(
            (point, "KILL")
            for point in ("dump.held", "stream.begun", "stream.piece#1", "stream.piece#3", "stream.ended")
        ),
        *(("stream.piece#2", action) for action in ("INT", "FULL")),
        *((point, "FULL") for point in ("stream.begun", "stream.ended")),
    ],
)
def test_a_run_that_is_ended_leaves_nothing_and_the_next_one_is_whole(library, server, tmp_path, point, action):
    ask(library, "CREATE TABLE large AS SELECT g, repeat(md5(g::text), 300) AS x FROM generate_series(1, 700) g")
    settings = settings_for(library, tmp_path)
    command = [sys.executable, "-c", TAKING, str(SHARED), str(tmp_path / "scriptorium.toml")]
    env = {**os.environ, "SCRIPTORIUM_FAILPOINTS": json.dumps({point: action})}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode != 0
    if action == "FULL":
        assert "No space left" in done.stderr or "became full" in done.stderr
    mine = "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ '^scriptorium dump'"
    until = time.monotonic() + 10
    while ask(server.address(), mine) != [(0,)]:
        assert time.monotonic() < until, "a session stayed behind"
        time.sleep(0.05)
    while str(server.port) in subprocess.run(["pgrep", "-af", "pg_dump"], capture_output=True, text=True).stdout:
        assert time.monotonic() < until, "a pg_dump stayed behind"
        time.sleep(0.05)
    left = [path for path in (settings.workspace_folder / "staging").rglob("*") if path.is_file()]
    assert action == "KILL" or left == []
    assert not list((tmp_path / "backups").glob("alexandria/*"))
    manifest = real_backup.take(settings, NOW)
    assert list((settings.workspace_folder / "staging").iterdir()) == []
    assert part_of(manifest).tables["public.large"].rows == 700


def test_a_disk_that_becomes_full_anyway(server, new_database, tmp_path, small, monkeypatch):
    """The estimate was too low: the unfinished archive is removed, and the error names the reason."""
    url = new_database(server)
    ask(url, "CREATE TABLE large AS SELECT g, sha512((g || 'x')::text::bytea) AS x FROM generate_series(1, 60000) g")
    (tmp_path / "home" / "library").mkdir(parents=True)
    disk = small("3m")
    monkeypatch.setattr(PostgresSource, "piece", MIB)
    monkeypatch.setattr(workspace.space, "require_space", lambda *_: None)
    settings = settings_for(url, tmp_path, "stream", f'workspace = "{disk}/work"')
    with pytest.raises(NoSpace) as caught:
        backup.backup(settings, BackupRequest(compression=Compression.ZSTD), now=NOW)
    assert "became full" in caught.value.what and caught.value.on.startswith(str(disk))
    assert [path.name for path in disk.rglob("*") if path.is_file() and "staging" in path.parts] == []
    assert ask(url, "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ '^scriptorium'") == [(0,)]


MEMORY = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from scriptorium.settings import Settings, load
sys.path.insert(0, sys.argv[1])
import real_backup
real_backup.take(load(Path(sys.argv[2]), {}), datetime.now(UTC))
status = Path("/proc/self/status").read_text()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
"""


def test_memory_does_not_grow_with_the_dump(server, new_database, tmp_path):
    """Pieces of the real size; dumps of 10 and of 100 MB."""
    peaks = []
    for megabytes in (10, 100):
        url = new_database(server)
        large(url, megabytes)
        folder = tmp_path / str(megabytes)
        folder.mkdir()
        file = folder / "scriptorium.toml"
        file.write_text(
            f'compression = "zstd"\n[libraries.lib]\nsources = [{{ name = "db", kind = "postgres", dump = "stream",'
            f' database = "{url}" }}]\n[stores.local]\nkind = "local"\npath = "backups"\n'
        )
        command = [sys.executable, "-c", MEMORY, str(SHARED), str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout) / 1024)
    assert peaks[1] < 200 and peaks[1] - peaks[0] < 40, peaks
