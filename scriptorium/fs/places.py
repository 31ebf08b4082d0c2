"""Paths without links: each folder of the path is entered by its name, and a link that somebody puts there is refused.

For changes by path in a tree that others own: a rename, a new folder, a new mode. The real path (see ``real_path``) is
found once; a link that is found in it later was put there meanwhile.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scriptorium.errors import Untrusted
from scriptorium.fs.descriptors import FOLDER, reached

_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_OPEN = 8


def real_path(path: Path) -> Path:
    """The path with all links followed, the last one included; names at its end that do not exist stay as they are.

    Raises ``Untrusted`` for a link that leads to what its maker does not own.
    """
    path = path.absolute()
    missing: list[str] = []
    here = path
    while True:
        try:
            with reached(here) as (parent, name):
                found = Path(os.fsdecode(os.readlink(f"/proc/self/fd/{parent}")))  # noqa: PTH115 -- no path of a file
                return found.joinpath(*([] if name == b"." else [os.fsdecode(name)]), *reversed(missing))
        except (FileNotFoundError, NotADirectoryError):
            if here.is_symlink() and here.lstat().st_uid in (0, os.geteuid()):  # a link to what does not exist yet
                return real_path(here.parent / here.readlink()).joinpath(*reversed(missing))
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.ELOOP):
                raise
            return Path(os.path.realpath(path))  # we may not enter, so nobody can use us to change anything there
        missing.append(here.name)
        here = here.parent


def is_held(path: Path) -> bool:
    """Whether this is the name of something that is held open (``/proc/PID/fd/N``)."""
    return path.parts[:2] == ("/", "proc") and path.parts[3:4] == ("fd",)


class Places:
    """Opens the folders of paths. ``held``: a folder that is already open as ``descriptor``; what is below it is opened
    from there, even if it was renamed. Keeps the last few folders open, because the next path is often near."""

    def __init__(self, held: Path | None = None, descriptor: int = -1) -> None:
        self._held, self._descriptor = held, descriptor
        self._open: dict[Path, int] = {}

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def lstat(self, path: Path) -> os.stat_result | None:
        """The status of the path itself; ``None`` if it does not exist. ``Untrusted`` if a folder of it is a link."""
        if path == self._held:
            return os.fstat(self._descriptor)
        try:
            return os.stat(path.name, dir_fd=self._folder(path.parent), follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def there(self, path: Path) -> bool:
        return self.lstat(path) is not None

    def rename(self, source: Path, target: Path) -> None:
        """Rename what has the name ``source`` now. No link in either path is followed."""
        with self._kept(source.parent) as origin:
            goal = self._folder(target.parent)
            os.rename(source.name, target.name, src_dir_fd=origin, dst_dir_fd=goal)
        self._forget(source, target)

    def unlink(self, path: Path) -> None:
        os.unlink(path.name, dir_fd=self._folder(path.parent))

    def make_folder(self, folder: Path, mode: int) -> None:
        """Make a new folder. Raises ``FileExistsError``."""
        os.mkdir(folder.name, mode, dir_fd=self._folder(folder.parent))

    def remove_folder(self, folder: Path) -> None:
        """Remove an empty folder."""
        os.rmdir(folder.name, dir_fd=self._folder(folder.parent))
        self._forget(folder)

    def make_folders(self, folder: Path, mode: int) -> None:
        """Make the folder, and the missing folders above it. Raises ``NotADirectoryError`` if it is something else."""
        wanted, missing = folder, []
        while not self.there(folder):
            missing.append(folder)
            folder = folder.parent
        for one in reversed(missing):
            try:
                os.mkdir(one.name, mode, dir_fd=self._folder(one.parent))
            except FileExistsError:
                continue
        self._folder(wanted)

    @contextmanager
    def folder(self, path: Path) -> Iterator[int]:
        """The folder itself, open for reading during the block."""
        descriptor = os.open(".", FOLDER, dir_fd=self._folder(path))
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def itself(self, folder: Path) -> Path:
        """Another name for a folder, which stays right when the folder is renamed; valid until the next call."""
        return Path(f"/proc/self/fd/{self._folder(folder)}")

    def sync(self, folder: Path) -> None:
        """Make the renames in a folder durable."""
        with self.folder(folder) as descriptor:
            os.fsync(descriptor)

    @contextmanager
    def _kept(self, path: Path) -> Iterator[int]:
        """A folder that stays open during the block, whichever others are opened."""
        descriptor = os.dup(self._folder(path))
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _forget(self, *paths: Path) -> None:
        """Close the folders that had these names or were below them: they have other names now."""
        for folder in [one for one in self._open if any(one.is_relative_to(path) for path in paths)]:
            os.close(self._open.pop(folder))

    def _folder(self, path: Path) -> int:
        """The descriptor of a folder; valid until the next call."""
        if path == self._held:
            return self._descriptor
        if path not in self._open:
            if len(self._open) >= _MOST_OPEN:
                os.close(self._open.pop(next(iter(self._open))))
            self._open[path] = self._walk(path)
        return self._open[path]

    def _walk(self, path: Path) -> int:
        if self._held is not None and path.is_relative_to(self._held):
            here, names = os.dup(self._descriptor), path.relative_to(self._held).parts
        else:
            here, names = os.open("/", _STEP), path.parts[1:]
        try:
            for name in names:
                inside = self._step(here, name, path)
                os.close(here)
                here = inside
        except BaseException:
            os.close(here)
            raise
        return here

    @staticmethod
    def _step(here: int, name: str, path: Path) -> int:
        if name == "..":
            raise Untrusted("a path leads upwards", on=str(path), hint="find out who wrote it")
        try:
            return os.open(name, _STEP, dir_fd=here)
        except NotADirectoryError:
            if stat.S_ISLNK(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode):
                raise Untrusted(
                    f"a symbolic link has taken the place of the folder {name!r}",
                    on=str(path),
                    hint="find out who made it, put the folder back, and do this again",
                ) from None
            raise
