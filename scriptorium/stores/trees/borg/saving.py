"""A backup into a repository: its contents, then its manifest."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO

from scriptorium.archive.writer import sums_line
from scriptorium.errors import DamageFound, StoreUnavailable
from scriptorium.failpoints import reach
from scriptorium.manifest import dumps, readable
from scriptorium.members.comparison import ALTERED, MISSING
from scriptorium.members.ledger import SUMS
from scriptorium.members.selection import encoded
from scriptorium.model import Finding, Verification
from scriptorium.progress import step
from scriptorium.stores.trees.borg import archives as ours
from scriptorium.stores.trees.borg.failures import NoRepository
from scriptorium.stores.trees.borg.items import RENAMED, as_printed, item_of
from scriptorium.stores.trees.borg.lookup import ArchiveLookup
from scriptorium.stores.trees.borg.program import Borg
from scriptorium.stores.trees.borg.reading import MANIFEST_FILE, digests
from scriptorium.stores.trees.corrections import corrected
from scriptorium.stores.trees.package import TreePackage
from scriptorium.stores.trees.record import MEMBERS, TREES, Line, Place, dump_places, tree_of

log = logging.getLogger(__name__)

_CHECKPOINT_SECONDS = 600
_READ = frozenset("AMCE")  # added, modified, changed while it was read


@dataclass(frozen=True, slots=True)
class Saved:
    """Contents that are in the repository. ``package``: as borg keeps it; ``read``: what borg read anew."""

    package: TreePackage
    archive: str
    read: frozenset[int]

    def read_back(self, program: Borg) -> Verification:
        """Compare what is new: to us, or to borg. Everything else was in the repository before."""
        at, began = datetime.now(UTC).replace(microsecond=0), time.monotonic()
        with step("reading back", self.package.label):
            findings = compare(program, self.archive, self._new())
        return Verification(at, not findings, tuple(map(str, findings)), time.monotonic() - began)

    def _new(self) -> Iterator[tuple[Place, Line]]:
        for line in self.package.lines():
            if line.entry.kind == "file":
                place = tree_of(line, self.package.places)
                if not line.known or hash(as_printed(item_of(place, line))) in self.read:
                    yield place, line


def compare(program: Borg, archive: str, wanted: Iterator[tuple[Place, Line]]) -> list[Finding]:
    """Read these files, and compare their hashes."""
    pairs = list(wanted)
    findings: list[Finding] = []
    if not pairs:
        return findings
    last = readable(pairs[0][1].entry.path)
    try:
        for line, sha256 in digests(program, archive, pairs):
            last = readable(line.entry.path)
            if sha256 is None:
                findings.append(Finding(MISSING, last))
            elif sha256 != line.entry.sha256:
                detail = f"sha256 should be {(line.entry.sha256 or '')[:12]}…, is {sha256[:12]}…"
                findings.append(Finding(ALTERED, last, detail))
    except DamageFound as error:
        findings.append(Finding(ALTERED, last, error.what))
    return findings


def make_repository(program: Borg, encryption: str) -> None:
    """Make a repository. Where another run has just done that, this is no error."""
    try:
        program.run("init", f"--encryption={encryption}", "--make-parent-dirs", making=True)
    except StoreUnavailable as error:
        try:
            program.run("list", "--json")
        except NoRepository:
            raise error from None


def save_contents(program: Borg, package: TreePackage, put: str, compression: str) -> Saved:
    """One archive of all parts, staged ones and living trees."""
    archive = ours.name_for(package.manifest, package.label, ours.CONTENTS, put)
    folder = package.folder / f"borg-{put}"
    folder.mkdir(mode=0o700)
    with (folder / "paths").open("w+b") as paths:
        _write_paths(package, paths)
        paths.seek(0)
        reach("borg.before-contents")
        incomplete, read = _create(program, package, archive, compression, paths)
        reach("borg.after-contents")
    held = corrected(package, ArchiveLookup(program, archive), incomplete=incomplete)
    if package.contents and incomplete and not held.contents:
        raise StoreUnavailable(
            "what was read for the backup is gone",
            on=program.address,
            hint="was a disk or a share unmounted? try again",
        )
    return Saved(held, archive, read)


def _create(
    program: Borg, package: TreePackage, archive: str, compression: str, paths: IO[bytes]
) -> tuple[bool, frozenset[int]]:
    """Returns whether something could not be read, and what was read anew."""
    words = ["--paths-from-stdin", r"--paths-delimiter=\0", "--files-cache=ctime,size,inode", "--progress", "--list"]
    words += ["--filter=AMCE", f"--compression={compression}", f"--checkpoint-interval={_CHECKPOINT_SECONDS}"]
    words += [f"--comment={ours.comment_of(package.manifest)}", f"::{archive}"]
    read: set[int] = set()
    done = 0
    with step("saving with borg", package.label, expected=package.contents or None) as moved:
        with program.followed("create", *words, cwd=package.folder, input=paths) as running:
            for message in running:
                if message.get("type") == "file_status" and message.get("status") in _READ:
                    read.add(hash(str(message.get("path")).lstrip("/")))
                at = message.get("original_size")
                if isinstance(at, int) and at > done:
                    moved(at - done)
                    done = at
        for line in running.lines if running.warned else ():
            log.warning("borg: %s", line)
    return running.warned, frozenset(read)


def _write_paths(package: TreePackage, paths: IO[bytes]) -> None:
    """Every member that was read from a tree, each path ended by NUL; those of the run's folder relative to it."""
    top = encoded(f"{package.folder}/")
    for line in package.lines():
        if line.tree is None:
            continue
        place = tree_of(line, package.places)
        path = encoded(place.on_disk(line.entry.path))
        item = item_of(place, line)
        if item.startswith(f"{RENAMED}/") and b"\r" in path:
            if line.entry.kind != "file":
                continue  # the record has everything of it
            path = _copied_beside(package, path, item)
        paths.write(path.removeprefix(top) + b"\0")
    paths.flush()


def _copied_beside(package: TreePackage, path: bytes, item: str) -> bytes:
    copy = package.folder / item
    copy.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        shutil.copy2(path, encoded(str(copy)), follow_symlinks=False)
    except OSError:
        copy.unlink(missing_ok=True)  # borg does not find it, and it is reported as a file that could not be read
    return encoded(str(copy))


def save_manifest(program: Borg, package: TreePackage, put: str, compression: str) -> None:
    """The archive whose presence is the commit: the manifest, the record of the members, and for people the sums of
    what an extraction by borg alone writes."""
    folder = package.folder / f"borg-{put}"
    (folder / MANIFEST_FILE).write_bytes(dumps(package.manifest))
    (folder / TREES).write_bytes(dump_places(package.places))
    (folder / MEMBERS).hardlink_to(package.record)
    with (folder / SUMS).open("wb") as sums:
        for line in package.lines():
            if line.entry.sha256 is not None:
                sums.write(sums_line(item_of(tree_of(line, package.places), line), line.entry.sha256))
    archive = ours.name_for(package.manifest, package.label, ours.MANIFEST, put, package.contents)
    words = ["--files-cache=disabled", f"--compression={compression}", f"--comment={ours.comment_of(package.manifest)}"]
    reach("borg.before-manifest")
    program.run("create", *words, f"::{archive}", MANIFEST_FILE, TREES, MEMBERS, SUMS, cwd=folder, quick=False)
    reach("borg.after-manifest")
