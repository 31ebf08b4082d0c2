"""The folder of a store on another host, by ssh: a POSIX shell there, rsync, and the ordinary tools.

What is read comes by rsync into a temporary folder; hashes are made there by ``sha256sum`` where the host has it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from scriptorium import process
from scriptorium.errors import NoSpace, NotFound, ToolMissing
from scriptorium.fs.removal import remove_tree
from scriptorium.members.selection import decoded, encoded
from scriptorium.progress import Advance
from scriptorium.stores.trees.corrections import Node
from scriptorium.stores.trees.record import Line
from scriptorium.stores.trees.rsync.folder import Folder
from scriptorium.stores.trees.rsync.generations import ANNOTATIONS, CARD, CONTENTS, Seen
from scriptorium.stores.trees.rsync.listing import listed_files
from scriptorium.stores.trees.rsync.program import ANSWERS_WITHIN, Rsync
from scriptorium.stores.trees.rsync.site import UNREADABLE, Keeps

log = logging.getLogger(__name__)

_TOGETHER, _AT_ONCE = 64 << 20, 2_000  # bytes and files that come, or are hashed, at the same time
_CHUNK = 1 << 20
_TAKEN, _ABSENT = 17, 18  # how our scripts end
_PREPARE = """umask 077
mkdir -p -- "$@" && mkdir -- "$1/.probe" && cd -- "$1/.probe" || exit 1
echo lower >file
ln file again 2>/dev/null && echo links
ln -s file link 2>/dev/null && echo symlinks
chmod 640 file 2>/dev/null && case $(ls -l file) in -rw-r-----*) echo modes ;; esac
[ -e FILE ] || echo case
cd .. && rm -rf .probe
"""
_REPLACE = f"""[ -d "$1" ] || {{ [ -d "$3" ] && exit {_ABSENT}; }}
umask 077
cd -- "$1" && cat >".$2.new" && {{ sync ".$2.new" || sync; }} 2>/dev/null && mv -- ".$2.new" "$2" || exit 1
{{ sync . || sync; }} 2>/dev/null
"""
_TOUCH = 'touch -- "$1"'
_RENAME = 'mv -- "$1" "$2"'
_PUBLISH = f"""[ -e "$2" ] && exit {_TAKEN}
{{ sync -f "$1" || sync; }} 2>/dev/null
mv -- "$1" "$2" || exit 1
d=$(dirname -- "$2")
{{ sync "$d" || sync; }} 2>/dev/null
"""
_REMOVE = """[ -e "$1" ] || exit 0
find "$1" -type d ! -perm -700 -exec chmod u+rwx {} + ; rm -rf -- "$1"
"""
_HASH = """cd -- "$1" 2>/dev/null || exit 0
command -v sha256sum >/dev/null || exit 127
xargs -0 sha256sum --
"""
_CAT = 'cat -- "$1"'
_FREE = 'd=$1; while [ ! -d "$d" ]; do d=$(dirname -- "$d"); done; df -Pk -- "$d"'
_SUM = re.compile(rb"\\?([0-9a-f]{64}) [ *](.*)", re.DOTALL)
_UNREAD = re.compile(r"sha256sum: (.*): ([^:]+)", re.DOTALL)
_MISSING = "No such file or directory"
_ANSWERS = {_MISSING, "Not a directory", "Is a directory", "Input/output error"}
_UNESCAPE = {rb"\\": b"\\", rb"\n": b"\n", rb"\r": b"\r"}


@dataclass(frozen=True, slots=True)
class Remote:
    """``path``: on the host; relative to the home of its user, or absolute."""

    rsync: Rsync
    path: str

    @property
    def name(self) -> str:
        return self.rsync.name

    def address(self, path: str) -> str:
        return self.rsync.there(self._there(path))

    def absolute(self, path: str) -> str:
        return self._there(path) if self.path.startswith("/") else ""

    def _there(self, path: str) -> str:
        top = self.path if self.path.startswith("/") else f"./{self.path}"
        return f"{top}/{path}" if path else top

    def survey(self, library: str = "") -> Sequence[Seen]:
        with _temporary() as place:
            within = f"/{library}/" if library else "/*/"
            chosen = [f"--include={pattern}" for pattern in (within, f"{within}*/")]
            chosen += [f"--include={within}*/{name}" for name in (CARD, ANNOTATIONS, f"{CONTENTS}/")]
            try:
                self._pull("", place, "-rt", "--exclude=/lost+found/", *chosen, "--exclude=*")
            except NotFound:
                return ()
            return Folder(place, self.name).survey(library)

    @contextmanager
    def fetched(self, folder: str, names: Sequence[str]) -> Iterator[Mapping[str, Path]]:
        with _temporary() as place:
            listed, back = place / "listed", place / "back"
            listed.write_text("".join(f"{name}\n" for name in names))
            back.mkdir()
            with contextlib.suppress(NotFound):
                self._pull(folder, back, "-t", "--compress", f"--files-from={listed}")
            yield {name: back / name for name in names if (back / name).is_file()}

    def prepare(self, folder: str, inner: Sequence[str]) -> Keeps:
        folders = [folder, *(f"{folder}/{one}" for one in inner)]
        found = set(self.rsync.command(_PREPARE, *map(self._there, folders), within=ANSWERS_WITHIN).decode().split())
        return Keeps(links="links" in found, symlinks="symlinks" in found, modes="modes" in found, case="case" in found)

    def write(self, folder: str, files: Mapping[str, Path]) -> None:
        with _temporary() as place:
            for name, source in files.items():
                shutil.copyfile(source, place / name)
                (place / name).chmod(0o600)
            # Without its time: a listing shows when the host had it, by the clock of the host.
            self.rsync.run("-rp", "--exclude=*/", f"{place}/", f"{self.address(folder)}/")

    def replace(self, folder: str, name: str, data: bytes) -> None:
        words = self._there(folder), name, self._there("")
        done = self.rsync.attempt(_REPLACE, *words, input=data, within=ANSWERS_WITHIN)
        if done.status == _ABSENT:
            raise NotFound("there is no such backup", on=self.address(folder))
        if done.status != 0:
            raise self.rsync.failure(done.status, done.stderr)

    def touch(self, folder: str) -> None:
        self.rsync.command(_TOUCH, self._there(folder), within=ANSWERS_WITHIN)

    def publish(self, old: str, new: str) -> None:
        done = self.rsync.attempt(_PUBLISH, self._there(old), self._there(new))
        if done.status == _TAKEN:
            raise FileExistsError(new)
        if done.status != 0:
            raise self.rsync.failure(done.status, done.stderr)

    def rename(self, old: str, new: str) -> None:
        self.rsync.command(_RENAME, self._there(old), self._there(new), within=ANSWERS_WITHIN)

    def remove(self, folder: str) -> None:
        self.rsync.command(_REMOVE, self._there(folder))

    def hashes(
        self, folder: str, files: Mapping[str, int], advance: Advance | None, *, written: bool = False
    ) -> Iterator[tuple[str, str]]:
        for batch in _batches(files):
            yield from self._hashed_there(folder, batch, advance)

    def _hashed_there(
        self, folder: str, batch: Mapping[str, int], advance: Advance | None
    ) -> Iterator[tuple[str, str]]:
        names = b"".join(encoded(f"./{path}") + b"\0" for path in batch)
        done = self.rsync.attempt(_HASH, self._there(folder), input=names)
        if done.status == 127:
            yield from _hashed_here(self.opened(folder, batch), advance)
            return
        found = dict(map(_sum, done.stdout.splitlines()))
        if len(found) < len(batch):
            found |= self._unread(done)
        for path, size in batch.items():
            if advance is not None:
                advance(size)
            if path in found:
                yield path, found[path]

    def _unread(self, done: process.Outcome) -> dict[str, str]:
        """Files that are there and could not be read. A missing one is an answer, and a broken disk; what else stops
        ``sha256sum`` is not."""
        found: dict[str, str] = {}
        for line in done.stderr.splitlines():
            unread = _UNREAD.fullmatch(line)
            if unread is None or unread[2] not in _ANSWERS:
                raise self.rsync.failure(done.status, line)
            if unread[2] != _MISSING:
                log.warning("%s: %s", self.name, line)
                found[unread[1].removeprefix("./")] = UNREADABLE
        return found

    def opened(self, folder: str, files: Mapping[str, int]) -> Iterator[tuple[str, IO[bytes]]]:
        for batch in _batches(files):
            path, size = next(iter(batch.items()))
            if size > _TOGETHER:
                with self._streamed(f"{folder}/{path}") as file:
                    if file is not None:
                        yield path, file
            else:
                yield from self._pulled(folder, batch)

    @contextmanager
    def _streamed(self, path: str) -> Iterator[IO[bytes] | None]:
        try:
            with self.rsync.command_stream(_CAT, self._there(path)) as output:
                yield output if output.peek(1) else None
        except NotFound:
            return

    def _pulled(self, folder: str, batch: Mapping[str, int]) -> Iterator[tuple[str, IO[bytes]]]:
        with _temporary() as place:
            listed, back = place / "listed", place / "back"
            listed.write_bytes(b"".join(encoded(f"./{path}") + b"\0" for path in batch))
            back.mkdir()
            with contextlib.suppress(NotFound):
                self._pull(folder, back, "-t", "--from0", f"--files-from={listed}")
            top = os.fsencode(back)
            for path in batch:
                try:
                    file = open(top + b"/" + encoded(path), "rb")  # noqa: PTH123, SIM115 -- bytes
                except FileNotFoundError:
                    continue
                with file:
                    yield path, file

    def _pull(self, folder: str, target: Path, *words: str) -> None:
        try:
            self.rsync.run(*words, f"{self.address(folder)}/", f"{target}/")
        except NoSpace:
            raise NoSpace(
                "the folder for temporary files is full", on=str(target.parent), hint="free some space, or set TMPDIR"
            ) from None

    def nodes(self, folder: str, lines: Mapping[str, Line]) -> Mapping[str, Node]:
        """A listing has whole seconds: files that differ in these, or in their size, come here to be looked at."""
        there = self.rsync.run("-r", "--list-only", "--no-human-readable", f"{self.address(folder)}/").stdout
        listed = {decoded(path): known for path, *known in listed_files(there)}
        found: dict[str, Node] = {}
        other: dict[str, int] = {}
        for path, line in lines.items():
            if path not in listed:
                continue
            if listed[path] == [line.entry.size, line.entry.mtime_ns // 10**9]:
                found[path] = Node(line.entry.size, line.entry.mtime_ns)
            else:
                other[path] = listed[path][0]
        for path, file in self.opened(folder, other):
            found[path] = Node(other[path], _mtime(file, listed[path][1]))
        return found

    def free(self) -> int | None:
        try:
            found = self.rsync.command(_FREE, self._there(""), within=ANSWERS_WITHIN).split(b"\n")[1].split()
            return int(found[3]) << 10
        except (IndexError, ValueError, NotFound, ToolMissing):
            return None


def _mtime(file: IO[bytes], listed: int) -> int:
    """Of a file that came by rsync; a large one comes through a pipe, without its time."""
    status = os.fstat(file.fileno())
    return status.st_mtime_ns if stat.S_ISREG(status.st_mode) else listed * 10**9


@contextmanager
def _temporary() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="scriptorium-rsync-"))
    try:
        yield place
    finally:
        remove_tree(place)


def _batches(files: Mapping[str, int]) -> Iterator[Mapping[str, int]]:
    batch: dict[str, int] = {}
    together = 0
    for path, size in files.items():
        if batch and (len(batch) == _AT_ONCE or together + size > _TOGETHER):
            yield batch
            batch, together = {}, 0
        batch[path] = size
        together += size
    if batch:
        yield batch


def _sum(line: bytes) -> tuple[str, str]:
    """Path and SHA-256 of a line of ``sha256sum``."""
    found = _SUM.fullmatch(line)
    if found is None:
        return "", ""
    name = found[2]
    if line.startswith(b"\\"):
        name = re.sub(rb"\\[\\nr]", lambda one: _UNESCAPE[one[0]], name)
    return decoded(name.removeprefix(b"./")), found[1].decode()


def _hashed_here(opened: Iterator[tuple[str, IO[bytes]]], advance: Advance | None) -> Iterator[tuple[str, str]]:
    for path, file in opened:
        digest = hashlib.sha256()
        for chunk in iter(functools.partial(file.read, _CHUNK), b""):
            digest.update(chunk)
            if advance is not None:
                advance(len(chunk))
        yield path, digest.hexdigest()
