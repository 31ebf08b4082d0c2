"""A large file, put in parts that are sent at the same time; one that was interrupted goes on with what is missing.

One thread reads the file once, for the hash of the whole and of each part; others send the parts from the file again,
out of the memory of the system: no part is held by us, so memory does not grow with the size. A part that the server
has is compared by its checksum there, and not sent again.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from scriptorium.errors import DamageFound, ScriptoriumError, StoreRefused, StoreUnavailable, TransientError
from scriptorium.failpoints import reach
from scriptorium.progress import Advance
from scriptorium.stores.objects.base import ObjectInfo
from scriptorium.stores.objects.s3.checksums import Kind
from scriptorium.stores.objects.s3.place import MEBIBYTE

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from scriptorium.stores.objects.s3.objects import S3Objects

log = logging.getLogger(__name__)

MOST_PARTS = 10_000
_CHUNK = MEBIBYTE


def part_size(size: int, wanted: int) -> int:
    """In bytes: as wanted, or larger if the file would have too many parts."""
    least = -(-size // MOST_PARTS)
    return max(wanted * MEBIBYTE, -(-least // MEBIBYTE) * MEBIBYTE)


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its number from 1 on, where it begins in the file, its digest."""

    number: int
    start: int
    size: int
    digest: bytes | None
    md5: str


@dataclass(frozen=True, slots=True)
class Whole:
    """All parts as they were sent, with what the server called them. ``digest``: of the whole, where one is sent."""

    size: int
    sha256: str
    digest: bytes | None
    parts: tuple[Part, ...]
    etags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload that was begun. ``there``: the parts that the server has, by number."""

    key: str
    id: str
    there: Mapping[int, Mapping[str, Any]]


class PartOfFile(io.RawIOBase):
    """A part as a file of its own, for boto3 to send, and to send again."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def __len__(self) -> int:
        return self._size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence] + offset
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)[: max(0, self._size - self._at)]
        count = os.preadv(self._file.fileno(), [view], self._start + self._at) if len(view) else 0
        self._at += count
        return count


def put_in_parts(objects: S3Objects, key: str, file: Path, size: int, sha256: str | None, advance: Advance) -> None:
    """Put the file. A transient error leaves what the server has, for the next try; any other removes it."""
    kind = Kind(objects.place.checksums)
    upload = _unfinished(objects, key, file, size, kind) or Upload(
        key, objects.begin_upload(key, kind.of_upload, sha256), {}
    )
    try:
        with file.open("rb") as source:
            whole = _send(objects, upload, source, size, kind, advance)
        if sha256 is not None and whole.sha256 != sha256:
            raise DamageFound("the archive changed on its way into the store", on=str(file), hint="check the disk")
        reach("bucket.before-complete")
        objects.complete_upload(upload, kind, whole)
        reach("bucket.after-complete")
    except (TransientError, KeyboardInterrupt):
        raise
    except BaseException:
        objects.abort_upload(key, upload.id)
        raise


def last_part(objects: S3Objects, upload: ObjectInfo) -> datetime:
    """When an upload got its newest part: one that takes longer than a day is not abandoned."""
    with contextlib.suppress(ScriptoriumError):  # it was ended, or parts may not be listed
        times: list[datetime] = [
            part["LastModified"].astimezone(UTC) for part in objects.parts(upload.key, upload.etag)
        ]
        return max((upload.modified, *times))
    return upload.modified


def _unfinished(objects: S3Objects, key: str, file: Path, size: int, kind: Kind) -> Upload | None:
    """The newest unfinished upload of this file, with its parts.

    An upload with a part of another file is left alone: another host may be sending it at this time.
    """
    begun: list[ObjectInfo] = []
    with contextlib.suppress(StoreRefused):  # a key that may not list uploads continues none
        begun = [one for one in objects.uploads(key) if one.key == key]
    for one in sorted(begun, key=lambda one: one.modified, reverse=True):
        try:
            there = {int(part["PartNumber"]): part for part in objects.parts(key, one.etag)}
        except StoreUnavailable:  # it was ended in the meantime
            continue
        if there and _is_of(file, size, part_size(size, objects.place.part_size), there, kind):
            log.info("%s: an upload of %s goes on; the server has %d parts", objects.name, key, len(there))
            return Upload(key, one.etag, there)
    return None


def _is_of(file: Path, size: int, step: int, there: Mapping[int, Mapping[str, Any]], kind: Kind) -> bool:
    """Whether the server has parts of this file alone: archives of one library may have equal beginnings."""
    with file.open("rb") as source:
        for number in sorted(there):
            source.seek((number - 1) * step)
            length = min(step, size - source.tell())
            if length <= 0 or not _is_same(_read_part(source, number, length, kind, [], with_md5=True), there, kind):
                return False
    return True


def _send(objects: S3Objects, upload: Upload, source: BinaryIO, size: int, kind: Kind, advance: Advance) -> Whole:
    """Send every part that the server does not have. ``advance`` is called by this thread alone."""
    parallel = objects.place.parallel
    places = threading.Semaphore(parallel + 1)
    whole, checked = hashlib.sha256(), kind.begin() if kind.name == "crc64" else None
    parts: list[Part] = []
    sent: list[Future[str]] = []
    pending: list[Future[str]] = []
    sizes: dict[Future[str], int] = {}

    def send(part: Part) -> str:
        try:
            etag = objects.send_part(upload, part, PartOfFile(source, part.start, part.size), kind)
            reach("bucket.part-sent")
            return etag
        finally:
            places.release()

    with ThreadPoolExecutor(parallel, thread_name_prefix="s3-part") as pool:
        try:
            step = part_size(size, objects.place.part_size)
            for part in _parts(source, size, step, kind, [whole, checked], upload.there):
                places.acquire()
                pending = _unsettled(pending, sizes, advance)
                sent.append(_already(upload, part, kind, places) or pool.submit(send, part))
                parts.append(part)
                pending.append(sent[-1])
                sizes[sent[-1]] = part.size
            while pending:
                wait(pending, return_when=FIRST_COMPLETED)
                pending = _unsettled(pending, sizes, advance)
            etags = [one.result() for one in sent]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    digest = checked.digest() if checked is not None else None
    return Whole(size, whole.hexdigest(), digest, tuple(parts), tuple(etags))


def _unsettled(pending: list[Future[str]], sizes: Mapping[Future[str], int], advance: Advance) -> list[Future[str]]:
    """Those that are not done. Those that are, are reported; the error of one that failed is raised."""
    done = [one for one in pending if one.done()]
    for one in done:
        one.result()
        advance(sizes[one])
    return [one for one in pending if one not in done]


def _already(upload: Upload, part: Part, kind: Kind, places: threading.Semaphore) -> Future[str] | None:
    """The result for a part that the server has already; ``None`` if it has to be sent."""
    if not _is_same(part, upload.there, kind):
        return None
    places.release()
    done: Future[str] = Future()
    done.set_result(str(upload.there[part.number]["ETag"]))
    return done


def _is_same(part: Part, known: Mapping[int, Mapping[str, Any]], kind: Kind) -> bool:
    there = known.get(part.number)
    if there is None or there["Size"] != part.size:
        return False
    stored_digest = there.get(kind.field) if kind.field else None
    return bool(
        stored_digest == kind.sent(part.digest)[kind.field]
        if stored_digest
        else str(there["ETag"]).strip('"') == part.md5
    )


def _parts(
    source: BinaryIO, size: int, step: int, kind: Kind, also: list[Any], there: Mapping[int, object]
) -> Iterator[Part]:
    """The parts, in order. ``also``: digests that get every byte. MD5 is computed of parts that are ``there``."""
    for number, start in enumerate(range(0, size, step), 1):
        yield _read_part(source, number, min(step, size - start), kind, also, with_md5=number in there)


def _read_part(source: BinaryIO, number: int, size: int, kind: Kind, also: list[Any], *, with_md5: bool) -> Part:
    """The part that begins where the file is."""
    start, left = source.tell(), size
    digest, md5 = kind.begin(), hashlib.md5(usedforsecurity=False) if with_md5 else None
    while left:
        chunk = source.read(min(_CHUNK, left))
        if not chunk:
            raise DamageFound("the archive became shorter while it was sent", on=source.name)
        left -= len(chunk)
        for one in (*also, digest, md5):
            if one is not None:
                one.update(chunk)
    return Part(number, start, size, digest.digest() if digest else None, md5.hexdigest() if md5 else "")
