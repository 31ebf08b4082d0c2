"""A backup into a repository: its contents, then its manifest."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scriptorium.archive.writer import sums_line
from scriptorium.errors import StoreUnavailable
from scriptorium.failpoints import reach
from scriptorium.manifest import dumps
from scriptorium.members.ledger import SUMS
from scriptorium.model import Verification
from scriptorium.progress import Advance, step
from scriptorium.stores.trees.arrival import read_back
from scriptorium.stores.trees.corrections import corrected
from scriptorium.stores.trees.package import COPIED, TreePackage
from scriptorium.stores.trees.record import MEMBERS, TREES, dump_places, tree_of
from scriptorium.stores.trees.restic import snapshots as ours
from scriptorium.stores.trees.restic.arrival import ReturnedBySnapshot
from scriptorium.stores.trees.restic.failures import Incomplete
from scriptorium.stores.trees.restic.lookup import SnapshotLookup
from scriptorium.stores.trees.restic.program import Restic
from scriptorium.stores.trees.restic.targets import targets

log = logging.getLogger(__name__)

MANIFEST_FILE = "manifest.json"


_COUNTS = ("total_files_processed", "files_new", "files_changed")


@dataclass(frozen=True, slots=True)
class Saved:
    """Contents that are in the repository. ``package``: as restic holds it; ``named``: how restic finds the snapshot;
    ``had_the_rest``: restic read no more than what is new; everything else was in the repository before."""

    package: TreePackage
    named: tuple[str, ...]
    folder: Path
    had_the_rest: bool

    def read_back(self, program: Restic) -> Verification:
        """Compare what is new."""
        with step("reading back", self.package.label):
            return read_back(self.package, ReturnedBySnapshot(program, self.package, self.named, self.folder))


def make_repository(program: Restic) -> None:
    """Make a repository. Where another run has just done that, this is no error."""
    try:
        program.run("init", making=True)
    except StoreUnavailable:
        program.run("cat", "config")  # says why, unless it is there now


def save_contents(program: Restic, package: TreePackage, put: str, before: Sequence[ours.Snapshot]) -> Saved:
    """One snapshot of all parts, staged ones and living trees."""
    tags = ours.tags_of(package.manifest, package.label, ours.CONTENTS, put)
    if any(place.within == f"/{COPIED}" for place in package.places):
        tags[ours.COPIED] = "yes"  # its paths are those of the backup: no backup of the sources finds its files there
    chosen = targets(package)
    folder = package.folder / f"restic-{put}"
    folder.mkdir(mode=0o700)
    listed, excluded = folder / "targets", folder / "excluded"
    listed.write_bytes(chosen.listed(package.folder))
    excluded.write_bytes(chosen.patterns())
    host = socket.gethostname()
    words = [f"--files-from-raw={listed}", f"--exclude-file={excluded}", f"--host={host}"]
    words += [f"--tag={ours.tag_words(tags)}"]
    words += [f"--exclude={pattern}" for pattern in chosen.odd_patterns()]
    parent = ours.parent_of(before, tags, host)
    words += [f"--parent={parent}"] if parent else ["--force"]
    reach("restic.before-contents")
    with step("saving with restic", package.label, expected=package.contents or None) as moved:
        incomplete, summary = _backup(program, words, package.folder, moved)
    reach("restic.after-contents")
    named = (f"--tag={ours.tag_words(tags)}", "latest")
    files = sum(1 for line in package.lines() if line.tree is not None and line.entry.kind in ("file", "hardlink"))
    incomplete = incomplete or summary.get("total_files_processed") != files  # it does not report what it does not see
    held = corrected(package, SnapshotLookup(program, named), incomplete=incomplete)
    read = summary.get("files_new", 0) + summary.get("files_changed", 0)
    new = sum(1 for line in held.lines() if line.entry.kind == "file" and not line.known)
    return Saved(held, named, folder, bool(parent) and read <= new)


def save_manifest(program: Restic, package: TreePackage, put: str) -> None:
    """The snapshot whose presence is the commit: the manifest, the record of the members, and for people the sums of
    what a restore by restic alone writes."""
    folder = package.folder / f"restic-{put}"
    (folder / MANIFEST_FILE).write_bytes(dumps(package.manifest))
    (folder / TREES).write_bytes(dump_places(package.places))
    (folder / MEMBERS).hardlink_to(package.record)
    with (folder / SUMS).open("wb") as sums:
        for line in package.lines():
            if line.entry.sha256 is not None:
                path = tree_of(line, package.places).in_tool(line.entry.path)
                sums.write(sums_line(path.lstrip("/"), line.entry.sha256))
    tags = ours.tags_of(package.manifest, package.label, ours.MANIFEST, put) | {"bytes": str(package.contents)}
    words = [f"--host={socket.gethostname()}", f"--tag={ours.tag_words(tags)}", "--force"]
    reach("restic.before-manifest")
    program.run("backup", *words, "--", MANIFEST_FILE, TREES, MEMBERS, SUMS, cwd=folder, within=None)
    reach("restic.after-manifest")


def _backup(program: Restic, words: Sequence[str], cwd: Path, advance: Advance) -> tuple[bool, dict[str, int]]:
    """Run ``restic backup``, telling ``advance`` the bytes that it has read. Returns whether something could not be
    read, and how many files it saw, and how many of them were new to it, or changed."""
    summary: dict[str, int] = {}
    incomplete = False
    try:
        _follow(program, words, cwd, advance, summary)
    except Incomplete as error:
        log.warning("%s", error)
        incomplete = True
    return incomplete, summary


def _follow(program: Restic, words: Sequence[str], cwd: Path, advance: Advance, summary: dict[str, int]) -> None:
    done = 0
    with program.stream("backup", "--json", *words, cwd=cwd) as output:
        for line in output:
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if message.get("message_type") == "summary":
                summary.update({name: message.get(name, 0) for name in _COUNTS})
            at = message.get("bytes_done") or message.get("total_bytes_processed") or 0
            if at > done:
                advance(at - done)
                done = at
