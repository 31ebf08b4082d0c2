"""A folder as a store: every object a file, written beside and renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Literal
from urllib.parse import unquote

from scriptorium.errors import DamageFound, NoSpace, NotFound, StoreUnavailable, Untrusted, UsageError
from scriptorium.fs.atomic import beside, new_file, sync_file, sync_folder
from scriptorium.fs.free_space import free_bytes
from scriptorium.fs.places import real_path
from scriptorium.fs.system_errors import advice, reason_of
from scriptorium.manifest import is_archive_name
from scriptorium.progress import Advance
from scriptorium.stores.care import Finding
from scriptorium.stores.objects.archive_store import ArchiveStore
from scriptorium.stores.objects.base import ObjectInfo, checked_key

log = logging.getLogger(__name__)

_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{8}\.partial", re.DOTALL)
_CHUNK = 1 << 20
_MARK = "user.scriptorium.put"  # on what was put: an archive without a manifest and without this is not ours
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # EFBIG: a filesystem that takes no file of this size
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class LocalStore(ArchiveStore):
    """Archives in a folder, ``path``."""

    kind: Literal["local"] = "local"
    name: str = "local"
    path: Path

    @classmethod
    def from_url(cls, url: str) -> Mapping[str, object] | None:
        """``file:///FOLDER``, or a path."""
        if url.startswith("file://"):
            return {"path": Path(unquote(url.removeprefix("file://")))}
        scheme = re.match(r"[a-z0-9+]+:", url)
        return None if scheme and not Path(url).exists() else {"path": Path(url).absolute()}

    @property
    def objects(self) -> LocalObjects:
        return LocalObjects(self.path, self.name)

    def examine(self, *, try_delete: bool) -> Iterator[Finding]:
        yield from self._about_keys()
        if try_delete:
            yield from self.objects.attempt()


@dataclass(frozen=True, slots=True)
class LocalObjects:
    """``path``: the folder; it is created (0700) with the first object. Files of others in it stay as they are."""

    path: Path
    name: str = "local"

    @property
    def folder(self) -> Path:
        return self.path

    @property
    def takes_over(self) -> bool:
        return True

    def prepare(self) -> None:
        with self._trouble(self.path):
            _make_private(self.path)

    def _file(self, key: str) -> Path:
        """The file of an object; also of one that ``put`` refuses and ``list`` shows (others' files, leftovers)."""
        names = key.split("/")
        if "\0" in key or any(name in ("", ".", "..") for name in names):
            raise UsageError("not the key of an object", on=repr(key))
        return self.path.joinpath(*names)

    @contextlib.contextmanager
    def _trouble(self, path: Path, *, lookup: bool = False) -> Iterator[None]:
        """Turn errors of the operating system into errors that tell a person what to do."""
        try:
            real_path(self.path)
            yield
        except Untrusted as error:
            raise StoreUnavailable(f"the store is not used: {error.what}", on=str(path), hint=error.hint) from error
        except OSError as error:
            if lookup and (isinstance(error, _ABSENT) or error.errno == errno.ENAMETOOLONG) and self._is_usable():
                raise NotFound(
                    "no such object", on=str(path), hint="another store may have it: --from STORE"
                ) from error
            if error.errno in _FULL:
                what = "the store is full" if error.errno != errno.EFBIG else "the store takes no file of this size"
                raise NoSpace(what, on=str(self.path), hint="free some space, or run cleanup") from error
            raise StoreUnavailable(
                f"the store does not answer: {reason_of(error)}", on=str(path), hint=advice(error, path)
            ) from error

    def attempt(self) -> Iterator[Finding]:
        """Write a file as an unfinished object, and try to remove it: a mount may be read-only."""
        probe = self.path / f".probe.{secrets.token_hex(4)}.partial"
        try:
            self.prepare()
            with self._trouble(probe):
                probe.touch(0o600)
        except (StoreUnavailable, NoSpace) as error:
            yield Finding("writing", f"nothing can be written: {error.exact}", False, error.hint)
            return
        try:
            probe.unlink()
            yield Finding("removal", "what was put can be removed", None, "nothing locks a folder; a bucket can")
        except OSError as error:
            found = f"what was put cannot be removed: {reason_of(error)}"
            yield Finding("removal", found, False, "an unfinished object has to be renamed: no backup gets in here")

    def _is_usable(self) -> bool:
        """Whether the store is a folder, or not there yet."""
        return self.path.is_dir() or not os.path.lexists(self.path)

    def put(self, key: str, file: Path, *, sha256: str | None = None, advance: Advance | None = None) -> None:
        with self._beside(key) as partial:
            taken = self._taken_over(file, partial)
            if not taken:
                self._copy(file, partial, sha256, advance)
            elif advance is not None:
                advance(file.stat().st_size)
            with contextlib.suppress(OSError):  # a filesystem without attributes
                os.setxattr(partial, _MARK, b"1", follow_symlinks=False)
        log.info("%s: %s is %s", self.name, key, "linked into the store" if taken else "copied into the store")

    def _taken_over(self, file: Path, partial: Path) -> bool:
        """Link the workspace's file, which copies no byte; but not a file that another store has taken over already."""
        try:
            status = file.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                return False
            os.link(file, partial)
        except OSError:
            return False
        with self._trouble(partial):
            if stat.S_IMODE(status.st_mode) != 0o600:
                partial.chmod(0o600)
            sync_file(partial)
        return True

    def _copy(self, file: Path, partial: Path, sha256: str | None, advance: Advance | None) -> None:
        digest = hashlib.sha256()
        with file.open("rb") as source, self._trouble(partial), new_file(partial) as target:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                target.write(chunk)
                if advance is not None:
                    advance(len(chunk))
        if sha256 is not None and digest.hexdigest() != sha256:
            raise DamageFound("the archive changed on its way into the store", on=str(file), hint="check the disk")

    def put_bytes(self, key: str, data: bytes) -> None:
        with self._beside(key) as partial, self._trouble(partial), new_file(partial) as file:
            file.write(data)

    @contextlib.contextmanager
    def _beside(self, key: str) -> Iterator[Path]:
        """A name beside the object's; renamed onto it at the end, removed when anything fails."""
        target = self.path.joinpath(*checked_key(key))
        with self._trouble(target.parent):
            _make_private(self.path)
            _make_private(target.parent)
        with contextlib.ExitStack() as replacing:
            partial = replacing.enter_context(beside(target, failpoint="store"))
            yield partial
            with self._trouble(target):
                replacing.close()

    def open(self, key: str) -> BinaryIO:
        path = self._file(key)
        with self._trouble(path, lookup=True):
            return path.open("rb")

    def open_range(self, key: str, start: int, end: int) -> BinaryIO:
        file = self.open(key)
        file.seek(start)
        return file

    def read_bytes(self, key: str) -> bytes:
        path = self._file(key)
        with self._trouble(path, lookup=True):
            return path.read_bytes()

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        yield from (info for info in self._walk() if info.key.startswith(prefix) and not _is_hidden(info.key))

    def leftovers(self) -> Iterator[ObjectInfo]:
        yield from (info for info in self._walk() if _UNFINISHED.fullmatch(info.key.rpartition("/")[2]))

    def discard(self, leftover: ObjectInfo) -> None:
        self.delete(leftover.key)

    def _walk(self) -> Iterator[ObjectInfo]:
        """Files at the top and in the libraries' folders, by key; hidden folders (the workspace) are not ours."""
        for name, found in self._entries(self.path):
            if found is not None:
                yield _info(name, found)
            elif not name.startswith("."):
                for inner, status in self._entries(self.path / name):
                    if status is not None:
                        yield _info(f"{name}/{inner}", status)

    def _entries(self, folder: Path) -> Sequence[tuple[str, os.stat_result | None]]:
        """The names in a folder with the status of files, ``None`` for folders, in the order of their keys."""
        found: dict[str, os.stat_result | None] = {}
        with self._trouble(folder), contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    try:
                        found[entry.name] = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:  # removed in the meantime
                        continue
                elif entry.is_dir(follow_symlinks=False):
                    found[entry.name] = None
        return sorted(found.items(), key=lambda pair: f"{pair[0]}/" if pair[1] is None else pair[0])

    def may_discard(self, key: str, manifest: str) -> bool:
        """An archive that has no mark of ours may have been put there by hand. Annotations are always ours."""
        if not is_archive_name(key.rpartition("/")[2]):
            return True
        try:
            return bool(os.getxattr(self._file(key), _MARK, follow_symlinks=False))
        except OSError as error:
            if error.errno == errno.ENOTSUP:  # no mark can be there
                return True
            log.info("%s: %s stays: it has no manifest, and was not put here by this program", self.name, key)
            return False

    def delete(self, key: str) -> None:
        path = self._file(key)
        with contextlib.suppress(NotFound), self._trouble(path, lookup=True):
            path.unlink()
            sync_folder(path.parent)

    def location(self, key: str) -> str:
        return str(self._file(key))

    def usage(self) -> tuple[int, int | None]:
        used = sum(info.size for info in self._walk())
        with self._trouble(self.path):
            return used, free_bytes(self.path)


def _make_private(folder: Path) -> None:
    """Make a folder that only we may enter, and its name durable; one that is there stays as it is."""
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True, mode=0o700)
    sync_folder(folder.parent)


def _is_hidden(key: str) -> bool:
    return key.rpartition("/")[2].startswith(".")


def _info(key: str, stat: os.stat_result) -> ObjectInfo:
    return ObjectInfo(
        key=key,
        size=stat.st_size,
        modified=datetime.fromtimestamp(stat.st_mtime, UTC),
        etag=f"{stat.st_mtime_ns:x}-{stat.st_size:x}-{stat.st_ino:x}",
    )
