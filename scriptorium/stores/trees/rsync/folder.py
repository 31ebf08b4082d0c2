"""The folder of a store on this machine."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from scriptorium import process
from scriptorium.errors import NoSpace, NotFound, StoreUnavailable, ToolMissing, Untrusted
from scriptorium.fs import atomic
from scriptorium.fs.free_space import free_bytes
from scriptorium.fs.places import real_path
from scriptorium.fs.removal import remove_tree
from scriptorium.fs.system_errors import advice, no_space, reason_of
from scriptorium.manifest import readable
from scriptorium.members.selection import encoded
from scriptorium.progress import Advance
from scriptorium.stores.trees.corrections import Node
from scriptorium.stores.trees.record import Line
from scriptorium.stores.trees.rsync.generations import ANNOTATIONS, CARD, CONTENTS, Seen
from scriptorium.stores.trees.rsync.site import UNREADABLE, Keeps

log = logging.getLogger(__name__)

_ABSENT = (FileNotFoundError, NotADirectoryError)
_FOREIGN = "lost+found"
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Folder:
    """``path``: the folder; it is made (0700) with the first backup. What others have in it is left alone."""

    path: Path
    name: str

    def address(self, path: str) -> str:
        return str(self.path / path)

    def absolute(self, path: str) -> str:
        return str(self.path.absolute() / path)

    @contextmanager
    def _trouble(self, path: Path, *, lookup: bool = False) -> Iterator[None]:
        """Errors of the system as errors that tell a person what to do."""
        try:
            real_path(self.path)
            yield
        except Untrusted as error:
            raise StoreUnavailable(f"the store is not used: {error.what}", on=str(path), hint=error.hint) from error
        except FileExistsError:
            raise
        except OSError as error:
            if lookup and isinstance(error, _ABSENT) and self._is_usable():
                raise NotFound("there is no such backup", on=str(path)) from error
            if no_space(error):
                raise NoSpace("the store is full", on=str(self.path), hint="free some space, or run cleanup") from error
            raise StoreUnavailable(
                f"the store does not answer: {reason_of(error)}", on=str(path), hint=advice(error, path)
            ) from error

    def _is_usable(self) -> bool:
        """Whether the store is a folder, or not there yet."""
        return self.path.is_dir() or not os.path.lexists(self.path)

    def survey(self, library: str = "") -> Sequence[Seen]:
        with self._trouble(self.path):
            if not os.path.lexists(self.path):
                return ()
            libraries = [library] if library else [name for name in _folders(self.path) if not name.startswith(".")]
            found: list[Seen] = []
            for one in libraries:
                found += self._generations(one, asked=bool(library))
            return found

    def _generations(self, library: str, *, asked: bool) -> Iterator[Seen]:
        folder = self.path / library
        try:
            names = _folders(folder)
        except FileNotFoundError:
            if not self._is_usable():
                raise
            return
        except PermissionError:
            if asked or library != _FOREIGN:
                raise
            return
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # removed in the meantime
                yield _seen(folder / name, library)

    @contextmanager
    def fetched(self, folder: str, names: Sequence[str]) -> Iterator[Mapping[str, Path]]:
        with self._trouble(self.path / folder):
            if not self._is_usable():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(self.path))
            found = {name: self.path / folder / name for name in names if (self.path / folder / name).is_file()}
        yield found

    def prepare(self, folder: str, inner: Sequence[str]) -> Keeps:
        for one in ("", *inner):
            with self._trouble(self.path / folder / one):
                _make(self.path / folder / one)
        place = self.path / folder / ".probe"
        with self._trouble(place):
            place.mkdir(mode=0o700)
            try:
                return _tried(place)
            finally:
                remove_tree(place)

    def write(self, folder: str, files: Mapping[str, Path]) -> None:
        for name, source in files.items():
            target = self.path / folder / name
            with (
                self._trouble(target, lookup=True),
                atomic.beside(target) as partial,
                source.open("rb") as read,
                atomic.new_file(partial) as written,
            ):
                shutil.copyfileobj(read, written, _CHUNK)

    def replace(self, folder: str, name: str, data: bytes) -> None:
        target = self.path / folder / name
        with self._trouble(target, lookup=True):
            atomic.write(target, data)

    def _flush(self, folder: str) -> None:
        try:
            done = process.run(["sync", "--file-system", str(self.path / folder)], check=False)
        except ToolMissing:
            os.sync()
            return
        if done.status != 0:
            raise StoreUnavailable(f"the disk does not take what was written: {done.stderr}", on=str(self.path))

    def touch(self, folder: str) -> None:
        with self._trouble(self.path / folder):
            os.utime(self.path / folder)

    def publish(self, old: str, new: str) -> None:
        self.rename(old, new)  # what is in it is on the disk since it was read back

    def rename(self, old: str, new: str) -> None:
        with self._trouble(self.path / new, lookup=True):
            atomic.put_new(self.path / old, self.path / new)

    def remove(self, folder: str) -> None:
        with self._trouble(self.path / folder), contextlib.suppress(FileNotFoundError):
            remove_tree(self.path / folder)

    def hashes(
        self, folder: str, files: Mapping[str, int], advance: Advance | None, *, written: bool = False
    ) -> Iterator[tuple[str, str]]:
        if written:
            self._flush(folder)
        for path, file in self.opened(folder, files):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # read the disk, not the memory
            try:
                found = _hash(file, advance)
            except OSError as error:
                log.warning("%s: %s", readable(path), reason_of(error))
                found = UNREADABLE
            yield path, found

    def opened(self, folder: str, files: Mapping[str, int]) -> Iterator[tuple[str, IO[bytes]]]:
        """No link is followed on the way: somebody who may write there must not choose what is read."""
        top = os.fsencode(self.path / folder)
        with self._trouble(self.path / folder):
            for path in files:
                try:
                    descriptor = os.open(top + b"/" + encoded(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                except OSError as error:
                    if not isinstance(error, _ABSENT) and error.errno not in (errno.ELOOP, errno.ENXIO):
                        raise
                    if not self._is_usable():
                        raise
                    continue
                with os.fdopen(descriptor, "rb") as file:
                    if stat.S_ISREG(os.fstat(descriptor).st_mode):
                        yield path, file

    def nodes(self, folder: str, lines: Mapping[str, Line]) -> Mapping[str, Node]:
        found: dict[str, Node] = {}
        top = os.fsencode(self.path / folder)
        with self._trouble(self.path / folder):
            for path in lines:
                with contextlib.suppress(*_ABSENT):
                    status = os.lstat(top + b"/" + encoded(path))
                    if stat.S_ISREG(status.st_mode):
                        found[path] = Node(status.st_size, status.st_mtime_ns)
        return found

    def free(self) -> int | None:
        with self._trouble(self.path):
            return free_bytes(self.path)


def _hash(file: IO[bytes], advance: Advance | None) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
        if advance is not None:
            advance(len(chunk))
    return digest.hexdigest()


def _folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))


def _seen(folder: Path, library: str) -> Seen:
    changed = datetime.fromtimestamp(folder.lstat().st_mtime, UTC)
    try:
        with (folder / CARD).open("rb") as file:
            card, status = file.read(1 << 16), os.fstat(file.fileno())
    except (*_ABSENT, PermissionError):
        return Seen(library, folder.name, changed)
    contents = (folder / CONTENTS).is_dir()
    stamps = [f"{status.st_mtime_ns:x}-{status.st_size:x}"]
    try:
        known = (folder / ANNOTATIONS).lstat()
        stamps.append(f"{known.st_mtime_ns:x}-{known.st_size:x}")
    except FileNotFoundError:
        stamps.append("-")
    stamps.append("" if contents else "empty")
    made = datetime.fromtimestamp(status.st_mtime, UTC)
    return Seen(library, folder.name, made, card, "/".join(stamps), contents)


def _make(folder: Path) -> None:
    if folder.is_dir():
        return
    if not folder.parent.is_dir():
        _make(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    atomic.sync_folder(folder.parent)


def _tried(place: Path) -> Keeps:
    file = place / "file"
    file.touch(0o600)
    (place / "FILE").touch(0o600)
    found = {"links": False, "symlinks": False}
    with contextlib.suppress(OSError):
        (place / "again").hardlink_to(file)
        found["links"] = True
    with contextlib.suppress(OSError):
        (place / "link").symlink_to("file")
        found["symlinks"] = True
    modes = False
    with contextlib.suppress(OSError):
        file.chmod(0o640)
        modes = stat.S_IMODE(file.lstat().st_mode) == 0o640
    return Keeps(**found, modes=modes, case=not file.samefile(place / "FILE"))
