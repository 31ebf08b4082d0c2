"""A folder as a store: every object a file, written beside and renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal

from pydantic import BaseModel, ConfigDict

from scriptorium.errors import DamageFound, NoSpace, NotFound, StoreUnavailable, UsageError
from scriptorium.stores.base import ObjectInfo

_PARTIAL = ".partial"
_CHUNK = 1 << 20


class LocalStore(BaseModel):
    """``path``: the folder; it is created (0700) with the first object."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["local"] = "local"
    name: str = "local"
    path: Path

    def prepare(self) -> None:
        with self._trouble(self.path):
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _file(self, key: str) -> Path:
        parts = PurePosixPath(key).parts
        if not parts or key.startswith("/") or any(part in ("..", ".") for part in parts) or "\0" in key:
            raise UsageError("not the key of an object", on=key)
        return self.path.joinpath(*parts)

    @contextlib.contextmanager
    def _trouble(self, path: Path) -> Iterator[None]:
        """Turn what the operating system says into what a person can act on."""
        try:
            yield
        except FileNotFoundError as error:
            raise NotFound("no such object", on=str(path)) from error
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpace("the store is full", on=str(self.path), hint="free some room, or run cleanup") from error
            raise StoreUnavailable(
                f"the store does not answer: {error.strerror}", on=str(path), hint="is it mounted, and yours to write?"
            ) from error

    def put(self, key: str, file: Path, *, sha256: str | None = None) -> None:
        target = self._file(key)
        with self._beside(target) as partial:
            try:
                os.link(file, partial)  # the workspace is on the same filesystem: no byte is copied
            except OSError:
                self._copy(file, partial, sha256)
            partial.chmod(0o600)

    def _copy(self, file: Path, partial: Path, sha256: str | None) -> None:
        digest = hashlib.sha256()
        with self._trouble(partial), file.open("rb") as source, partial.open("xb") as target:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                target.write(chunk)
            target.flush()
            os.fsync(target.fileno())
        if sha256 is not None and digest.hexdigest() != sha256:
            raise DamageFound("the archive changed on its way into the store", on=str(file), hint="check the disk")

    def put_bytes(self, key: str, data: bytes) -> None:
        with self._beside(self._file(key)) as partial, self._trouble(partial):
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())

    @contextlib.contextmanager
    def _beside(self, target: Path) -> Iterator[Path]:
        """A name beside the target; renamed onto it at the end, removed when anything fails."""
        with self._trouble(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}{_PARTIAL}")
        try:
            yield partial
            with self._trouble(target):
                partial.replace(target)
                self._sync(target.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise

    @staticmethod
    def _sync(folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def open(self, key: str) -> BinaryIO:
        path = self._file(key)
        with self._trouble(path):
            return path.open("rb")

    def read_bytes(self, key: str) -> bytes:
        path = self._file(key)
        with self._trouble(path):
            return path.read_bytes()

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        yield from (info for info in self._walk() if not _unfinished(info.key) and info.key.startswith(prefix))

    def leftovers(self) -> Iterator[ObjectInfo]:
        yield from (info for info in self._walk() if _unfinished(info.key))

    def discard(self, leftover: ObjectInfo) -> None:
        self.delete(leftover.key)

    def _walk(self) -> Iterator[ObjectInfo]:
        """Objects at the top and in the libraries' folders, by key; hidden folders (the workspace) are not ours."""
        yield from self._walk_folder(self.path, "", deeper=True)

    def _walk_folder(self, folder: Path, prefix: str, *, deeper: bool) -> Iterator[ObjectInfo]:
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreUnavailable(f"the store cannot be read: {error.strerror}", on=str(folder)) from error
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                if deeper and not entry.name.startswith("."):
                    yield from self._walk_folder(folder / entry.name, f"{prefix}{entry.name}/", deeper=False)
            elif entry.is_file(follow_symlinks=False):
                with contextlib.suppress(FileNotFoundError):
                    yield _info(f"{prefix}{entry.name}", entry.stat(follow_symlinks=False))

    def delete(self, key: str) -> None:
        path = self._file(key)
        with contextlib.suppress(NotFound), self._trouble(path):
            path.unlink()
            self._sync(path.parent)

    def location(self, key: str) -> str:
        return str(self._file(key))

    def local_path(self, key: str) -> Path | None:
        return self._file(key)

    def usage(self) -> tuple[int, int | None]:
        used = sum(info.size for info in self._walk())
        folder = self.path
        while not folder.exists():
            folder = folder.parent
        return used, shutil.disk_usage(folder).free


def _unfinished(key: str) -> bool:
    name = key.rpartition("/")[2]
    return name.startswith(".") and name.endswith(_PARTIAL)


def _info(key: str, stat: os.stat_result) -> ObjectInfo:
    return ObjectInfo(
        key=key,
        size=stat.st_size,
        modified=datetime.fromtimestamp(stat.st_mtime, UTC),
        etag=f"{stat.st_mtime_ns:x}-{stat.st_size:x}-{stat.st_ino:x}",
    )
