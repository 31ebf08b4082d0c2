"""A stream of an object. After a broken connection it continues at its position."""

from __future__ import annotations

import contextlib
import io
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from scriptorium.errors import StoreUnavailable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from scriptorium.stores.objects.s3.objects import S3Objects

_BUFFER = 1 << 20
_LONGEST_PAUSE = 20.0


def open_object(objects: S3Objects, key: str, start: int = 0, end: int | None = None) -> BinaryIO:
    """Ask for the object now, so that ``NotFound`` is raised here. ``start``, ``end``: only of these bytes."""
    stream = ObjectStream(objects, key, start, end)
    stream.ask()
    return cast(BinaryIO, io.BufferedReader(stream, _BUFFER))


class ObjectStream(io.RawIOBase):
    """The bytes of one version of an object, or those from ``start`` to before ``end``. Positions are those in the
    object. After ``seek`` the next read asks for the range from that position on."""

    def __init__(
        self,
        objects: S3Objects,
        key: str,
        start: int = 0,
        end: int | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._objects, self._key, self._sleep = objects, key, sleep
        self._at, self._wanted_end = start, end
        self._end, self._etag = -1, ""
        self._body: Any = None
        self._replaced = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._end}[whence]
        if start + offset < 0:
            raise ValueError("a position is not negative")
        if start + offset != self._at:
            self._drop()
        self._at = start + offset
        return self._at

    def ask(self) -> None:
        """Ask for the bytes from the position on; after the first time, only of the same version of the object."""
        last = "" if self._wanted_end is None else self._wanted_end - 1
        more = {"Range": f"bytes={self._at}-{last}"} if self._at or last != "" else {}
        if self._etag:
            more["IfMatch"] = self._etag
        answer = self._objects.get(self._key, **more)
        if answer is None:
            self._replaced = True
            raise StoreUnavailable(
                "the object was replaced or removed while it was read",
                on=self._objects.location(self._key),
                hint="see which host uses this prefix, and try again",
            )
        self._body = answer["Body"]
        begins = self._at
        if more.get("Range") and "ContentRange" not in answer:  # a poor server, or a proxy, sends the whole object
            begins = 0
            self._pass_over(self._at)
        if not self._etag:
            end = begins + int(answer["ContentLength"])
            self._etag = str(answer["ETag"])
            self._end = end if self._wanted_end is None else min(end, self._wanted_end)

    def _pass_over(self, left: int) -> None:
        while left:
            with self._objects.trouble(self._key):
                passed = len(self._body.read(min(left, _BUFFER)))
            if not passed:
                raise StoreUnavailable(
                    "the store does not answer: the object ended too early", on=self._objects.location(self._key)
                )
            left -= passed

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        if self._at >= self._end or not len(view):
            return 0
        data = self._read(min(len(view), self._end - self._at))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _read(self, most: int) -> bytes:
        """The next bytes. After a broken connection a new one is made, at most ``attempts`` times."""
        attempts = self._objects.place.attempts
        for attempt in range(1, attempts + 1):
            try:
                if self._body is None:
                    self.ask()
                with self._objects.trouble(self._key):
                    data: bytes = self._body.read(most)
                if data:
                    return data
                raise StoreUnavailable(
                    "the store does not answer: the object ended too early",
                    on=self._objects.location(self._key),
                    hint="try again later",
                )
            except StoreUnavailable:
                self._drop()
                if attempt == attempts or self._replaced:
                    raise
                self._sleep(random.uniform(0, min(_LONGEST_PAUSE, 0.5 * 2**attempt)))  # noqa: S311 no secret
        raise AssertionError("a request is tried at least once")

    def _drop(self) -> None:
        if self._body is not None:
            with contextlib.suppress(Exception):
                self._body.close()
            self._body = None

    def close(self) -> None:
        self._drop()
        super().close()
