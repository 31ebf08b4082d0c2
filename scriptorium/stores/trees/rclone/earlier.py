"""The newest earlier backup in a remote: what of it is the same in a new one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scriptorium.errors import DamageFound
from scriptorium.stores.trees.package import TreePackage
from scriptorium.stores.trees.rclone.layout import CONTENTS, Seen, read
from scriptorium.stores.trees.rclone.program import Rclone
from scriptorium.stores.trees.record import MEMBERS, parse_lines


@dataclass(frozen=True, slots=True)
class Earlier:
    """``same``: the members that are equal in it and lie at their paths, with the remote's hash of each, as it was
    compared when it arrived (``md5:…``; empty if it was read back). ``folder``: where their contents lie."""

    folder: tuple[str, ...] = ()
    same: Mapping[str, str] = field(default_factory=dict)


def find_earlier(program: Rclone, seen: Sequence[Seen], package: TreePackage) -> Earlier:
    """``DamageFound``, ``NotFound`` if its record cannot be read."""
    bases = [one for one in seen if one.is_backup and one.complete and one.label != package.label]
    if not bases:
        return Earlier()
    base = max(bases, key=lambda one: one.changed)
    where = (base.library, base.label)
    hashes: dict[str, str] = {}
    for stored in read(program, *where, base.listed).splitlines():
        name, _, hash = _stored(stored)
        hashes[name] = hash
    wanted = {line.entry.path: line.entry for line in package.lines() if line.entry.kind == "file"}
    same: dict[str, str] = {}
    for line in parse_lines(read(program, *where, MEMBERS).splitlines(keepends=True)):
        entry, name = line.entry, f"{CONTENTS}/{line.entry.path}"
        now = wanted.get(entry.path)
        if now is not None and (now.size, now.sha256) == (entry.size, entry.sha256) and name in hashes:
            same[entry.path] = hashes[name]
    return Earlier((*where, CONTENTS), same)


def _stored(line: bytes) -> tuple[str, int, str]:
    try:
        name, size, hash = json.loads(line)
    except ValueError:
        raise DamageFound("the list of what is stored cannot be read") from None
    return str(name), int(size), str(hash)
