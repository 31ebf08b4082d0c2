"""The rig of the fault matrix: a small library with two backups in two stores, and what must always be true of it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import driver
import psutil
from preloaded import preloaded

from scriptorium.catalog import Catalog
from scriptorium.failpoints import VARIABLE
from scriptorium.operations.verify import verify_stored
from scriptorium.settings import Settings
from scriptorium.words import Status

DRIVER = Path(driver.__file__)
ROOT = Path(__file__).parents[2]
MARK = "SCRIPTORIUM_TEST_MARK"
_ENDINGS = (".json", ".marks.json")
Living = Mapping[str, object]


@dataclass(frozen=True)
class Ended:
    """How the driver ended: its exit status (negative: the signal that ended it), and what it printed."""

    status: int
    stdout: str
    stderr: str


def build(folder: Path, make_place: Callable[..., Any]) -> type:
    """Two backups of one state, a day apart; then the living data is changed."""
    folder.mkdir(parents=True)
    place = make_place(folder, books=20)
    with place.config.open("a") as file:
        file.write('\n[stores.second]\nkind = "local"\npath = "second"\n')
    (folder / "new.json").write_text(json.dumps(living(place), sort_keys=True))
    for days in (2, 1):
        driver.backup(place.settings, now=datetime.now(UTC) - timedelta(days=days))
    place.execute("CREATE (:Book {id: 'later', title: 'written later', pages: 7})", "CHECKPOINT")
    (place.home / "data" / "covers" / "a.jpg").write_bytes(os.urandom(2500))
    (place.home / "data" / "covers" / "later.jpg").write_bytes(os.urandom(1500))
    (place.home / "data" / "uploads" / "notes.txt").unlink()
    (place.home / "config.py").write_text("DEBUG = True\n")
    return type(place)


def living(place: Any) -> Living:
    """The living data: every file by its hash, and the database by its rows."""
    state: dict[str, object] = {}
    for path in sorted(place.home.rglob("*")):
        inside = path.relative_to(place.home).as_posix()
        if inside.startswith("data/kuzu/") or ".scriptorium-" in inside:
            continue
        state[inside] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
    state["books"] = place.execute("MATCH (b:Book) RETURN b.id, b.title, b.pages ORDER BY b.id")
    state["authored"] = place.execute("MATCH (p:Person)-[:AUTHORED]->(b:Book) RETURN p.id, b.id ORDER BY p.id, b.id")
    return state


def differing(one: Living, other: Living) -> list[str]:
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


class Rig:
    """One copy of the rig that was built, and the questions that every row of the matrix asks.

    ``removed``: ids that the row itself had removed. ``hurt``: copies, by id and store, that the row itself damaged.
    """

    library = "bibliotheca"

    def __init__(self, place: Any) -> None:
        self.place = place
        self.new: Living = json.loads((place.folder / "new.json").read_text())
        self.old: Living = self.living
        self.before = self.copies()
        self.keys = {copy.key for one in Catalog(self.settings).backups(records=False) for copy in one.copies}
        self.newest = Catalog(self.settings).backups(records=False)[0].id
        self.removed: set[str] = set()
        self.hurt: set[tuple[str, str]] = set()
        assert len(self.before) == 4 and self.old != self.new

    @property
    def settings(self) -> Settings:
        settings: Settings = self.place.settings
        return settings

    @property
    def living(self) -> Living:
        return living(self.place)

    def copies(self) -> set[tuple[str, str]]:
        """(id, store) of every copy that is listed as good."""
        found = Catalog(self.settings).backups(records=False)
        return {(one.id, copy.store) for one in found for copy in one.copies if copy.status.good}

    def run(
        self,
        operation: str,
        points: Mapping[str, str],
        *,
        timeout: float = 120,
        before: Sequence[str] = (),
        **variables: str,
    ) -> Ended:
        """The operation in a process of its own, with failpoints; when it ends, none of its children is left.

        ``before``: words that are put before the command. ``variables``: of its environment.
        """
        env = self._environment(points) | variables
        if before or variables:
            argv = [*before, sys.executable, DRIVER, operation, self.place.config]
            done = subprocess.run(argv, env=env, capture_output=True, text=True, cwd=ROOT, timeout=timeout)
            status, out, err = done.returncode, done.stdout, done.stderr
        else:
            status, out, err = preloaded(ROOT).run((operation, str(self.place.config)), env, timeout)
        self.require_no_child()
        return Ended(status, out.strip(), err.strip())

    @contextmanager
    def started(self, operation: str, points: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
        """The operation in a process of its own, still running; ``heard`` waits for its end."""
        argv = [sys.executable, DRIVER, operation, self.place.config]
        with (self.place.folder / "stdout").open("w") as out, (self.place.folder / "stderr").open("w") as err:
            child = subprocess.Popen(argv, env=self._environment(points), cwd=ROOT, stdout=out, stderr=err)
        try:
            yield child
        finally:
            child.kill()
            child.wait()

    def heard(self, child: subprocess.Popen[bytes]) -> Ended:
        """How the process from ``started`` ended, and what it printed."""
        status = child.wait(60)
        out, err = ((self.place.folder / name).read_text().strip() for name in ("stdout", "stderr"))
        return Ended(status, out, err)

    def _environment(self, points: Mapping[str, str]) -> dict[str, str]:
        return {**os.environ, VARIABLE: json.dumps(points), MARK: str(self.place.folder)}

    def require_listed(self, point: str, signal: str) -> None:
        """A backup that was ended at this point is listed as what it is: not at all, failed, cancelled, or a backup."""
        written = {
            store.name
            for store in self.settings.stores.values()
            for info in store.objects.list(f"{self.library}/")
            if info.key.endswith(".json")
            and not info.key.endswith(".marks.json")
            and info.key.removesuffix(".json") not in self.keys
        }
        new = [one for one in Catalog(self.settings).backups() if one.id not in {id for id, _ in self.before}]
        if point.startswith("take.locked"):
            assert new == [], "nothing was begun"
            return
        (ours,) = new
        assert {copy.store for copy in ours.copies} == written
        if written:
            assert ours.status.good and not ours.error
        elif signal == "KILL":
            assert (ours.status, ours.error) == (Status.FAILED, "the run was cut short (its process is gone)")
        else:
            assert (ours.status, ours.error) == (Status.CANCELLED, "the run was cancelled")

    def again(self, operation: str) -> str:
        """Run the same operation again, in this process; it must succeed."""
        return driver.OPERATIONS[operation](self.settings)

    def next_after(self, operation: str, point: str) -> None:
        """Whatever runs next makes the living data whole: an undo, the same restore, or a backup.

        Each row of the matrix tries one of them, always the same one; an undo only if there is a restore to undo.
        """
        then = ("undo", operation, "backup")[zlib.adler32(point.encode()) % 3]
        if then == "undo" and not list((self.settings.workspace_folder / "restores").glob("*.json")):
            then = "backup"
        self.again(then)
        self.require_whole_living()
        expected = {"undo": (self.old,), "backup": (self.old, *self.restored)}.get(then, self.restored)
        assert self.living in expected, f"after {then}"

    @property
    def restored(self) -> tuple[Living, ...]:
        """The possible living data after a restore."""
        return (self.new,)

    def require_no_child(self) -> None:
        until = time.monotonic() + 10
        while (left := list(_marked(str(self.place.folder)))) and time.monotonic() < until:
            time.sleep(0.05)
        assert left == []

    def require_sound(self, *, but: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        """``verify --all``: every copy is sound, and no backup that was complete before is lost (except these ids)."""
        self.removed |= but
        for backup in Catalog(self.settings).backups(records=False):
            for copy in backup.copies:
                damage = verify_stored(self.settings, backup.id, copy).damage
                assert bool(damage) == ((backup.id, copy.store) in self.hurt), (backup.id, copy.store, damage)
        kept = {(id, store) for id, store in self.before - self.hurt if id not in self.removed}
        assert kept <= self.copies(), "a backup that was complete is lost"

    def close(self) -> None:
        """What must be true after every row of the matrix, whatever else its test examines."""
        self.require_no_child()
        self.require_sound()
        self.require_whole_living()

    def require_whole_living(self) -> None:
        """The living data is the old one or the new one, never a mixture."""
        living = self.living
        assert living in (self.old, self.new), (
            f"the living data is a mixture: not as in the old: {differing(living, self.old)[:9]}, "
            f"not as in the new: {differing(living, self.new)[:9]}"
        )

    def require_tidy(self, *, after_grace: bool = False) -> None:
        """No staging folder, no unfinished switch, no partial object. ``after_grace``: after a cleanup a day later."""
        if after_grace:
            for store in self.settings.stores.values():
                store.sweep(datetime.now(UTC) + timedelta(hours=25))
        workspace_folder = self.settings.workspace_folder
        assert list((workspace_folder / "staging").glob("*")) == []
        for file in (workspace_folder / "restores").glob("*") if (workspace_folder / "restores").is_dir() else ():
            assert file.suffix == ".json" and json.loads(file.read_bytes())["state"] == "kept", file
        kept = len(list((workspace_folder / "restores").glob("*.json")))
        staged = {path.name for path in self.place.folder.rglob(".scriptorium-restore-*")}
        assert len({name[:34] for name in staged}) <= kept, staged
        for run in Catalog(self.settings).backups():
            assert run.status is not Status.RUNNING
        for store in self.settings.stores.values():
            assert [info.key for info in store.objects.leftovers()] == []
            keys = {info.key for info in store.objects.list(f"{self.library}/")}
            archives = {key for key in keys if not key.endswith(_ENDINGS)}
            assert {f"{key}.json" for key in archives} <= keys, "an archive without a manifest"
            assert {key.removesuffix(".json").removesuffix(".marks") for key in keys - archives} == archives


def _marked(mark: str) -> Iterator[str]:
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark:
                yield f"{process.pid} {' '.join(process.cmdline()[:4])}"
        except psutil.Error:
            continue


def copied(template: Path, folder: Path, place: type) -> Rig:
    """A rig for one test, copied from the one that was built for all."""
    shutil.copytree(template, folder, symlinks=True)
    return Rig(place(folder, folder / "library", folder / "backups", folder / "scriptorium.toml"))
