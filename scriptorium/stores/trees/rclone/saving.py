"""A backup into a remote: claimed, sent, compared where it arrived, its manifest last."""

from __future__ import annotations

import dataclasses
import filecmp
import json
import logging
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from scriptorium.archive.writer import sums_line
from scriptorium.errors import DamageFound, NotFound, StoreRefused
from scriptorium.failpoints import reach
from scriptorium.manifest import dumps, readable
from scriptorium.members.comparison import ALTERED, MISSING
from scriptorium.members.ledger import SUMS
from scriptorium.model import Finding, Manifest, Verification
from scriptorium.progress import step
from scriptorium.stores.trees.arrival import read_back_lines
from scriptorium.stores.trees.corrections import changed, corrected
from scriptorium.stores.trees.package import TreePackage
from scriptorium.stores.trees.rclone.arrival import Arrival, Check, compared
from scriptorium.stores.trees.rclone.earlier import Earlier, find_earlier
from scriptorium.stores.trees.rclone.files import Lookup, Returned
from scriptorium.stores.trees.rclone.layout import (
    CLAIM,
    MANIFEST,
    NAMES,
    Claim,
    Entry,
    Seen,
    dump_names,
    listed_name,
    parse_claim,
    read,
)
from scriptorium.stores.trees.rclone.program import Rclone
from scriptorium.stores.trees.rclone.sending import Sending
from scriptorium.stores.trees.record import MEMBERS, TREES, Line, dump_places, tree_of

log = logging.getLogger(__name__)

_NAMED = 5
_LATE = 2.0  # seconds: some remotes list late what they have


@dataclass(frozen=True, slots=True)
class Saved:
    """``package``: as the remote keeps it."""

    package: TreePackage
    verification: Verification


def save(program: Rclone, package: TreePackage, seen: Sequence[Seen], check: Check) -> Saved:
    """Put a backup. ``seen``: what there is of its library. ``StoreRefused`` if its label is another run's."""
    folder = package.folder / ".rclone"
    folder.mkdir(mode=0o700, exist_ok=True)
    sending = Sending(program, package, folder)
    _claim(program, package, free=not any(one.label == package.label for one in seen))
    reach("rclone.before-contents")
    earlier = _earlier(program, package, seen)
    with step("sending by rclone", package.label, expected=package.contents or None) as moved:
        sending.copy_there(earlier)
        sending.send(earlier, moved)
    reach("rclone.after-contents")
    at, began = datetime.now(UTC).replace(microsecond=0), time.monotonic()
    with step("comparing", package.label):
        package, hashes = _arrived(sending, earlier, check)
    package = dataclasses.replace(package, manifest=_with_warnings(package, sending.renamed))
    _describe(sending, package, hashes)
    _require_claim(program, package)
    reach("rclone.before-manifest")
    put_manifest(program, package)
    reach("rclone.after-manifest")
    return Saved(package, Verification(at, True, (), time.monotonic() - began))


def _claim(program: Rclone, package: TreePackage, *, free: bool) -> None:
    """Say whose folder this is. ``free``: the remote lists no such folder."""
    if not free:
        _require_claim(program, package, torn=True)
    manifest = package.manifest
    claim = Claim(manifest.id, socket.gethostname(), manifest.created_at)
    program.run("rcat", program.at(manifest.library, package.label, CLAIM), input=claim.written())


def _require_claim(program: Rclone, package: TreePackage, *, torn: bool = False) -> None:
    """``StoreRefused`` unless the folder is this run's, or, with ``torn``, of a run that ended before it said so."""
    key = (package.manifest.library, package.label)
    try:
        claim = parse_claim(read(program, *key, CLAIM))
    except NotFound:
        claim = None
    if (claim is None and not torn) or (claim is not None and claim.id != package.manifest.id):
        raise StoreRefused(
            f"another backup{f' (of {claim.host})' if claim else ''} has this name already",
            on="/".join(key),
            hint="two hosts use one place; give each library its own name or path",
        )


def _earlier(program: Rclone, package: TreePackage, seen: Sequence[Seen]) -> Earlier:
    if not program.abilities.copies:
        return Earlier()
    try:
        return find_earlier(program, seen, package)
    except (DamageFound, NotFound) as error:
        log.warning("nothing is copied from an earlier backup: %s", error)
        return Earlier()


def _arrived(sending: Sending, earlier: Earlier, check: Check) -> tuple[TreePackage, dict[str, str]]:
    """Compare what arrived, send again what did not, and correct the record where a file changed meanwhile. Returns
    the hashes that the remote has, too."""
    package = sending.package
    arrival = compared(sending.stored, package, earlier, check)
    again = [line for line in arrival.wrong if not changed(line, tree_of(line, package.places))]
    if again:
        log.warning("%d files are not in the remote as they were sent: they are sent again by number", len(again))
        time.sleep(_LATE)
        sending.send_renamed(again)
        arrival = compared(sending.stored, package, earlier, check)
    held = corrected(package, Lookup(sending.stored, arrival.entries), incomplete=bool(arrival.wrong))
    findings = _still_wrong(sending, held, arrival)
    if findings and sending.trouble is not None:
        raise sending.trouble
    if findings:
        raise _differs(sending, findings)
    kept = {line.entry.path: line for line in held.lines()}
    unread = [kept[one.entry.path] for one in arrival.unread if one.entry.path in kept]
    read_back = read_back_lines(unread, Returned(sending.stored, sending.folder))
    if not read_back.sound:
        raise _differs(sending, read_back.damage)
    kind = sending.stored.hash
    for line in unread:  # the next backup knows them by the remote's hash
        name = sending.stored.name(line.entry.path)
        if kind and (entry := arrival.entries[name]).hash:
            arrival.hashes[name] = f"{kind}:{entry.hash}"
    return held, arrival.hashes


def _differs(sending: Sending, findings: Sequence[str]) -> DamageFound:
    return DamageFound("what was just stored reads back differently", on=sending.program.name, findings=findings[:3])


def _still_wrong(sending: Sending, held: TreePackage, arrival: Arrival) -> list[str]:
    """What did not arrive, and is in the record as if it had."""
    wrong = {line.entry.path: line for line in arrival.wrong}
    return [
        _finding(line, arrival.entries.get(sending.stored.name(line.entry.path)))
        for line in held.lines()
        if (sent := wrong.get(line.entry.path)) is not None and sent.entry == line.entry
    ]


def _finding(line: Line, there: Entry | None) -> str:
    return str(Finding(ALTERED if there else MISSING, readable(line.entry.path)))


def _with_warnings(package: TreePackage, renamed: Mapping[str, str]) -> Manifest:
    """What the remote does not hold; the record gives it back."""
    manifest = package.manifest
    links = sum(1 for line in package.lines() if line.entry.kind in ("symlink", "hardlink"))
    kept = [f"{links} links are in the record alone: a copy by rclone alone lacks them"] if links else []
    named = [
        f"{readable(path)}: stored as {name}, because of its name" for path, name in list(renamed.items())[:_NAMED]
    ]
    more = [f"{len(renamed) - _NAMED} more files are stored by number"] if len(renamed) > _NAMED else []
    return dataclasses.replace(manifest, warnings=(*manifest.warnings, *kept, *named, *more))


def _describe(sending: Sending, package: TreePackage, hashes: Mapping[str, str]) -> None:
    """What lies beside the contents, for the next backup, for this program and for people."""
    place, stored, program = sending.folder / "beside", sending.stored, sending.program
    place.mkdir(mode=0o700, exist_ok=True)
    for old in place.iterdir():
        old.unlink()
    (place / TREES).write_bytes(dump_places(package.places))
    (place / MEMBERS).hardlink_to(package.record)
    (place / NAMES).write_bytes(dump_names(sending.renamed))
    with (place / SUMS).open("wb") as sums, (place / listed_name(package.contents)).open("wb") as names:
        for line in package.lines():
            if line.entry.kind == "file" and line.entry.sha256 is not None:
                name = stored.name(line.entry.path)
                sums.write(sums_line(name, line.entry.sha256))
                names.write(json.dumps([name, line.entry.size, hashes.get(name, "")]).encode() + b"\n")
    program.transfer("copy", "--ignore-times", str(place), stored.at())
    _require_same(sending, place)


def _require_same(sending: Sending, place: Path) -> None:
    files = sorted(file.name for file in place.iterdir())
    with sending.stored.fetched(files, sending.folder) as back:
        _, wrong, missing = filecmp.cmpfiles(place, back, files, shallow=False)
    if wrong or missing:
        raise _differs(sending, [*wrong, *missing])


def put_manifest(program: Rclone, package: TreePackage) -> None:
    """Under another name first: some remotes show a file before it is whole."""
    data, key, new = dumps(package.manifest), (package.manifest.library, package.label), f"{MANIFEST}.new"
    program.run("rcat", program.at(*key, new), input=data)
    if read(program, *key, new) != data:
        raise DamageFound("the manifest reads back differently", on=program.name)
    program.run("moveto", program.at(*key, new), program.at(*key, MANIFEST))
