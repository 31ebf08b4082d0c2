"""Writes members to their places, hashes and compares them, and restores the attributes of each file."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scriptorium.errors import DamageFound, NoSpace, UnsafeArchive
from scriptorium.fs.access_lists import ACCESS, DEFAULT, AccessList
from scriptorium.fs.attributes import set_lists
from scriptorium.fs.descriptors import folder_at, write_whole
from scriptorium.fs.owners import AS_RECORDED, Ownership, group_number, user_number
from scriptorium.fs.system_errors import no_space
from scriptorium.manifest import readable
from scriptorium.members.comparison import Comparison
from scriptorium.members.ledger import LIST, OWN
from scriptorium.members.member import Member
from scriptorium.members.placing import Placing, sync_filesystem
from scriptorium.model import FileList, Unset, UnsetTally

_HOLE = 64 << 10
_COPIED = 1 << 20
_NOTHING = bytes(_HOLE)
_NO_SYMLINK = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)  # what a filesystem without symlinks answers
_NO_FIRST_NAME = "it could not be made"
_OWN_FILE = "is a file of its own now, no further name of another"
_REFUSED = ("device", "pipe", "unknown")


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What was written. ``unset``: owners and attributes that could not be set, links that could not be made."""

    files: int
    folders: int
    bytes: int
    unset: tuple[Unset, ...] = ()


def write_members(
    members: Iterable[Member],
    receive: Callable[[str], Path | None],
    *,
    roots: Sequence[Path],
    expected: FileList | None = None,
    complete: bool = True,
    foreign: bool = False,
    owner: Ownership = AS_RECORDED,
) -> Unpacked:
    """Write the members that ``receive`` gives an absolute destination; each must lie inside one of the ``roots``.

    ``receive`` is not called for our own members (manifest and sums). All members are hashed and compared with
    ``expected``; without ``complete``, members that are not received may be missing. Modes, times to the nanosecond,
    attributes, holes and owners (see ``owner``) are restored; everything is on the disk when this returns. ``foreign``:
    another program packed them, and symlinks may have further names. Raises ``DamageFound`` (for members that differ
    from ``expected`` only after everything was written), ``UnsafeArchive``, ``RestoreFailed``, ``NoSpace``.
    """
    with contextlib.ExitStack() as stack:
        comparison = stack.enter_context(contextlib.closing(Comparison(expected))) if expected is not None else None
        writing = stack.enter_context(contextlib.closing(_Writing(receive, roots, comparison, foreign, owner)))
        try:
            for member in members:
                writing.member(member)
            writing.finish()
        except OSError as error:
            if no_space(error):
                raise NoSpace("the disk became full while unpacking", on=str(roots[0])) from error
            raise
        asked = (lambda _: True) if complete else (lambda path: receive(path) is not None)
        if comparison is not None and (different := comparison.findings(asked=asked)):
            raise DamageFound(
                f"{len(different)} member(s) differ from the manifest",
                findings=[str(finding) for finding in different[:20]],
            )
        return writing.outcome()


class _Writing:
    """Writes the members of one backup to disk."""

    def __init__(
        self,
        receive: Callable[[str], Path | None],
        roots: Sequence[Path],
        comparison: Comparison | None,
        foreign: bool,
        owner: Ownership,
    ) -> None:
        self._foreign = foreign
        self._ownership = owner
        self._receive = receive
        self._roots = roots
        self._placing = Placing(roots, owner=owner.given if owner.possible else None)
        self._sources = Placing(roots)  # for hard links, beside the folders that are being filled
        self._comparison = comparison
        self._as_root = os.geteuid() == 0
        self._sets_owners = owner.attempted
        self._folders: list[tuple[Path, Member]] = []
        self._written: set[int] = set()  # hashes of paths: small, and enough to recognise our own files
        self._unset = UnsetTally()
        self._files = 0
        self._bytes = 0

    def close(self) -> None:
        self._placing.close()
        self._sources.close()

    def outcome(self) -> Unpacked:
        return Unpacked(self._files, len(self._folders), self._bytes, self._unset.result())

    def member(self, member: Member) -> None:
        entry = member.entry
        if entry.path in OWN:
            if self._comparison is not None and entry.path == LIST:
                for _ in self._comparison.listing(member.chunks()):
                    pass
            return
        if entry.path.startswith("/") or not entry.path or ".." in entry.path.split("/"):
            raise UnsafeArchive("a member would be written outside its target", on=readable(entry.path))
        destination = self._receive(entry.path)
        if destination is not None and entry.kind in _REFUSED:
            raise UnsafeArchive(f"a member is a {entry.kind}, which no backup holds", on=readable(entry.path))
        sha256 = None
        if entry.kind == "file":
            sha256 = self._file(member, destination)
        elif destination is not None:
            self._other(member, destination)
        if self._comparison is not None:
            self._comparison.member(replace(entry, sha256=sha256))

    def _other(self, member: Member, destination: Path) -> None:
        if member.entry.kind == "folder":
            os.close(self._placing.folder(destination))
            self._folders.append((destination, member))
            return
        target = member.entry.target or ""
        if member.entry.kind == "symlink":
            if not self._symlink(member, destination, target):
                return
            if self._foreign:
                self._written.add(hash(member.entry.path))
            self._files += 1
        else:
            self._hardlink(member, destination, target)

    def _symlink(self, member: Member, destination: Path, target: str) -> bool:
        """Make the symlink; false on a filesystem that has none."""
        try:
            parent, name = self._placing.symlink(destination, target)
        except OSError as error:
            if error.errno not in _NO_SYMLINK:
                raise
            self._unset.add("the symlink could not be made", f"{error.strerror}", readable(member.entry.path))
            return False
        self._set_symlink_attributes(member, parent, name)
        return True

    def _hardlink(self, member: Member, destination: Path, target: str) -> None:
        first = self._receive(target)
        if first is None:
            self._unset.add(_NO_FIRST_NAME, "a hard link to a file that is not restored", readable(member.entry.path))
            return
        if hash(target) not in self._written:
            raise UnsafeArchive("a hard link to a file that is not from this archive", on=readable(member.entry.path))
        if first == destination:  # the first name is not wanted: its contents were written under this name
            return
        folder, existing = self._sources.parent(first)
        if not self._placing.hardlink(destination, folder, existing, links=self._foreign):
            self._copy(member, destination, folder, existing)
        self._files += 1

    def _copy(self, member: Member, destination: Path, folder: int, existing: bytes) -> None:
        """Copy the file where no hard link is possible: on another filesystem, or on one without hard links."""
        if stat.S_ISLNK(os.stat(existing, dir_fd=folder, follow_symlinks=False).st_mode):
            self._symlink(member, destination, os.fsdecode(os.readlink(existing, dir_fd=folder)))
            return
        source = os.open(existing, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            target = self._placing.new_file(destination)
            try:
                with open(source, "rb", closefd=False) as file:
                    _write(target, iter(lambda: memoryview(file.read(_COPIED)), b""), os.fstat(source).st_size)
                self._set_attributes(member, target)
            finally:
                os.close(target)
        finally:
            os.close(source)
        self._unset.add(_OWN_FILE, "no hard link could be made", readable(member.entry.path))

    def _file(self, member: Member, destination: Path | None) -> str | None:
        """Write the contents, or only hash them; returns the hash if it is compared."""
        hashed = self._comparison is not None and (destination is not None or self._comparison.needs_every_hash)
        digest = hashlib.sha256()
        chunks = _hashing(member, digest) if hashed else member.chunks()
        if destination is not None:
            descriptor = self._placing.new_file(destination)
            try:
                _write(descriptor, chunks, member.entry.size)
                self._set_attributes(member, descriptor)
            finally:
                os.close(descriptor)
            self._written.add(hash(member.entry.path))
            self._files += 1
            self._bytes += member.entry.size
        else:
            for _ in chunks:
                pass
        return digest.hexdigest() if hashed else None

    def _set_attributes(self, member: Member, descriptor: int) -> None:
        """Set attributes, owner, access list, mode and time, in an order in which no step undoes another.

        Until then only we may open the file. Rights for others come last, and only for those who had them before.
        """
        for name, value in member.xattrs.items():
            if name.startswith("user."):
                with self._warned(member, f"the attribute {name}"):
                    os.setxattr(descriptor, name, value)
        mode = member.entry.mode
        if self._sets_owners:
            with self._warned(member, "the owner"):
                os.fchown(descriptor, *self._owner(member))
        if os.fstat(descriptor).st_uid != owner(member)[0] or not self._as_root:
            mode &= ~0o6000  # it would run as somebody else
        opened = self._opened(member, descriptor, mode)
        with self._warned(member, "the mode"):
            os.fchmod(descriptor, opened)
        with self._warned(member, "the time"):
            os.utime(descriptor, ns=(member.entry.mtime_ns, member.entry.mtime_ns))

    def _opened(self, member: Member, descriptor: int, mode: int) -> int:
        """Set the access lists; returns the mode that goes with what could be set."""
        group = self._owner(member)[1] if self._ownership.replaces else owner(member)[1]
        if not self._as_root and self._ownership.given is None:
            with contextlib.suppress(OSError):  # a group that we are in
                os.fchown(descriptor, -1, group)
        strange = os.fstat(descriptor).st_gid != group  # members of our group were not in that group
        lists = self._lists(member, strange)
        done: list[bool] = []
        with self._warned(member, "the access list"):
            set_lists(descriptor, lists.get(ACCESS), lists.get(DEFAULT))
            done.append(ACCESS in lists)
        if any(done):
            return lists[ACCESS].widened(mode)
        if ACCESS in member.lists:  # a mode cannot express whom the list excludes
            mode = lists[ACCESS].replaced(mode) if ACCESS in lists else mode & ~0o077
        return _group_as_others(mode) if strange else mode

    def _owner(self, member: Member) -> tuple[int, int]:
        return self._ownership.given or owner(member)

    def _lists(self, member: Member, strange: bool) -> dict[str, AccessList]:
        found: dict[str, AccessList] = {}
        for name, text in member.lists.items():
            with self._warned(member, "the access list"):
                read = AccessList.of_text(text)
                found[name] = read.with_group_as_others() if strange else read
        return found

    def _set_symlink_attributes(self, member: Member, parent: int, name: bytes) -> None:
        if self._sets_owners:
            with self._warned(member, "the owner"):
                os.chown(name, *self._owner(member), dir_fd=parent, follow_symlinks=False)
        with self._warned(member, "the time"):
            times = (member.entry.mtime_ns, member.entry.mtime_ns)
            os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)

    @contextlib.contextmanager
    def _warned(self, member: Member, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, OverflowError, ValueError) as error:
            if isinstance(error, OSError) and no_space(error):
                raise
            reason = str(error) if isinstance(error, ValueError) else "out of range"
            if isinstance(error, OSError):
                reason = f"{error.strerror}"
            self._unset.add(f"{what} could not be set", reason, readable(member.entry.path))

    def finish(self) -> None:
        """Set modes and times of folders last, from the bottom up; then write everything to the disk."""
        for destination, member in sorted(self._folders, key=lambda item: item[0].parts, reverse=True):
            descriptor = self._placing.folder(destination)
            try:
                self._set_attributes(member, descriptor)
            finally:
                os.close(descriptor)
        self._sync()

    def _sync(self) -> None:
        """One wait for each filesystem, not one for each file."""
        done: set[int] = set()
        for root in self._roots:
            with contextlib.suppress(FileNotFoundError), folder_at(root) as descriptor:  # nothing was written there
                device = os.fstat(descriptor).st_dev
                if device not in done:
                    sync_filesystem(descriptor)
                done.add(device)


def _group_as_others(mode: int) -> int:
    """The mode of a file whose group has changed: the new group may do no more than others, and others no more than the
    old group, because its members now count as others."""
    both = mode & mode >> 3 & 0o007
    return mode & ~0o077 | both << 3 | both


def _hashing(member: Member, digest: hashlib._Hash) -> Iterator[memoryview]:
    for chunk in member.chunks():
        digest.update(chunk)
        yield chunk


def _write(descriptor: int, chunks: Iterator[memoryview], size: int) -> None:
    """Write the contents; runs of zeros become holes."""
    hole = False
    for chunk in chunks:
        start = 0
        for at in range(0, len(chunk), _HOLE):
            part = chunk[at : at + _HOLE]
            if len(part) == _HOLE and part[0] == 0 and bytes(part) == _NOTHING:
                write_whole(descriptor, chunk[start:at])
                os.lseek(descriptor, _HOLE, os.SEEK_CUR)
                start, hole = at + _HOLE, True
        write_whole(descriptor, chunk[start:])
    if hole:
        os.ftruncate(descriptor, size)


def owner(member: Member) -> tuple[int, int]:
    """The owner on this machine: by name if the name is known here, otherwise by number, as tar does."""
    return user_number(member.uname, member.uid), group_number(member.gname, member.gid)
