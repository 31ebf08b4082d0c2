"""The general way of a backup from one store into a package for another: member by member, every hash compared.

A packager that wants the contents gets them as they come. One that records where the contents lie gets them unpacked
below the run's folder, in one tree that has the paths of the backup.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from scriptorium.errors import DamageFound, NoSpace
from scriptorium.fs.access_lists import RECORDS
from scriptorium.fs.removal import remove_tree
from scriptorium.fs.system_errors import no_space
from scriptorium.manifest import parse_entry_line
from scriptorium.members import OWN, Member, write_members
from scriptorium.members.comparison import Comparison
from scriptorium.members.ledger import INLINE, LIST
from scriptorium.members.selection import encoded
from scriptorium.members.sinks import MemberHeader
from scriptorium.model import FileEntry, FileList, Manifest, Part, Staged, Tree
from scriptorium.stores.base import Package, Packager, Packaging
from scriptorium.stores.trees.package import COPIED
from scriptorium.stores.trees.record import Line, parse_lines

_NAMED = 3
_HINT = "use another copy of this backup"


def passed_on(
    members: Iterable[Member], manifest: Manifest, packaging: Packaging, folder: Path, label: str, *, on: str
) -> Package:
    """The members of a copy as a package. ``manifest``: the whole one. ``folder``: of the run; ``on``: where the copy
    is. ``DamageFound`` if a member is not what the manifest says, or one is missing."""
    with contextlib.ExitStack() as stack:
        try:
            packager = stack.enter_context(packaging.packager(folder, label))
            comparison = stack.enter_context(contextlib.closing(Comparison(manifest.files)))
            listing = stack.enter_context((folder / f".{LIST}.copied").open("w+b"))
            checked = _Checked(members, comparison, listing)
            packager.begin(_draft(manifest), [_staged(part) for part in manifest.parts])
            if packager.wants_contents:
                _hand_over(checked, packager)
            else:
                _unpack(checked, packager, folder)
            if findings := comparison.findings():
                raise DamageFound(
                    "the copy is not what its manifest says",
                    on=on,
                    hint=f"{'; '.join(map(str, findings[:_NAMED]))}. {_HINT}",
                )
            listing.flush()
            whole = dataclasses.replace(manifest, archive=None, files=_listed(manifest.files, listing))
            packager.finish(whole, Path(listing.name) if whole.files.member is not None else None)
        except OSError as error:
            if no_space(error):
                raise NoSpace("the disk became full while the backup was copied", on=str(folder)) from error
            raise
    return packager.package(whole)


def _draft(manifest: Manifest) -> Manifest:
    return dataclasses.replace(
        manifest, parts=(), files=FileList(0, "", ()), archive=None, checks=(), finished_at=manifest.created_at
    )


def _staged(part: Part) -> Staged:
    return Staged(part.source, part.kind, part.path, part.method, part.started_at, part.finished_at, ())


def _listed(files: FileList, listing: IO[bytes]) -> FileList:
    """The list inline where it is short: the copy may have come from a store that hides it."""
    if files.entries is not None or files.count > INLINE:
        return files
    listing.seek(0)
    return FileList(files.count, files.sha256, tuple(map(parse_entry_line, listing)))


class _Checked:
    """The members of the parts, one by one. When the next one is asked for, the last one is hashed and compared."""

    def __init__(self, members: Iterable[Member], comparison: Comparison, listing: IO[bytes]) -> None:
        self._members, self._comparison, self._listing = members, comparison, listing
        self._digest = hashlib.sha256()

    def __iter__(self) -> Iterator[Member]:
        for member in self._members:
            if member.entry.path in OWN:
                if member.entry.path == LIST:
                    self._listing.writelines(self._comparison.listing(member.chunks()))
                continue
            self._digest = hashlib.sha256()
            yield dataclasses.replace(member, _contents=self._hashing(member))
            self._comparison.member(self.hashed(member.entry))

    def _hashing(self, member: Member) -> Iterator[memoryview]:
        for chunk in member.chunks():
            self._digest.update(chunk)
            yield chunk

    def hashed(self, entry: FileEntry) -> FileEntry:
        """The entry of the last member, after its contents were read."""
        return dataclasses.replace(entry, sha256=self._digest.hexdigest()) if entry.kind == "file" else entry


def _hand_over(checked: _Checked, packager: Packager) -> None:
    for member in checked:
        size = 0
        packager.member(_header(member))
        for chunk in member.chunks():
            size += len(chunk)
            packager.write(chunk)
        if size != member.entry.size:
            raise DamageFound("the contents of a member end early", on=member.entry.path, hint=_HINT)
        packager.end(checked.hashed(member.entry))


def _header(member: Member) -> MemberHeader:
    return MemberHeader(
        member.entry,
        member.uid,
        member.gid,
        dict(member.xattrs),
        names=(member.uname, member.gname),
        lists={name: text for name, text in member.lists.items() if name in RECORDS},
    )


def _unpack(checked: _Checked, packager: Packager, folder: Path) -> None:
    """Write the members below ``folder``; then record them, with the state that their files have at last."""
    top = folder / COPIED
    if top.exists():
        remove_tree(top)
    top.mkdir(mode=0o700)
    with tempfile.TemporaryFile(dir=folder) as lines:
        write_members(_noted(checked, lines), lambda path: top / path, roots=[top])
        lines.seek(0)
        tree = Tree(str(top), "")
        for line in parse_lines(lines):
            entry = line.entry
            status = os.lstat(encoded(f"{top}/{entry.path}"))
            header = MemberHeader(
                dataclasses.replace(entry, sha256=None),
                line.uid,
                line.gid,
                line.xattrs,
                tree,
                status,
                names=(line.uname, line.gname),
                lists=line.lists,
            )
            packager.member(header)
            packager.end(entry)


def _noted(checked: _Checked, lines: IO[bytes]) -> Iterator[Member]:
    """The members for the disk, where we must be able to read each file; what they are is noted."""
    for member in checked:
        entry = member.entry
        ours = {"file": 0o600, "folder": 0o700}.get(entry.kind, 0)
        yield dataclasses.replace(member, entry=dataclasses.replace(entry, mode=entry.mode | ours))
        lines.write(Line.of(_header(member), checked.hashed(entry), None).written())
