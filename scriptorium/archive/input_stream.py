"""Reads an archive: one thread reads, hashes and decompresses, while the caller works on the previous pieces."""

from __future__ import annotations

import contextlib
import hashlib
import queue
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

from scriptorium.archive.encryption import MAGIC, Decrypted, Keys, Source
from scriptorium.archive.written import MIB, EndsEarly, Written
from scriptorium.errors import DamageFound, KeyMissing, ScriptoriumError
from scriptorium.model import EntryPoint
from scriptorium.words import Compression

BLOCK = tarfile.BLOCKSIZE
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_EMPTY_ZSTD_FRAME = b"\x50\x2a\x4d\x18\x00\x00\x00\x00"  # a skippable frame of no bytes
_CHUNKS = 8
_HINT = "use another copy of this backup"
_EMPTY = memoryview(b"")


@dataclass(frozen=True, slots=True)
class Within:
    """Where a stream begins that is not the whole archive, and how the archive is compressed."""

    start: EntryPoint
    compression: Compression


class _Raw:
    """The archive as it is stored: counted and hashed while it is read. ``start``: its first byte in the archive."""

    def __init__(self, stream: BinaryIO, start: int) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._ahead = b""
        self._ended = False
        self.bytes = start

    def peek(self, count: int) -> bytes:
        while len(self._ahead) < count and (more := self._read(MIB)):
            self._ahead += more
        return self._ahead[:count]

    def read(self, count: int = MIB) -> bytes:
        """Up to ``count`` bytes; nothing at the end."""
        if self._ahead:
            data, self._ahead = self._ahead[:count], self._ahead[count:]
            return data
        return self._read(count)

    def _read(self, count: int) -> bytes:
        data = self._stream.read(count)
        self._digest.update(data)
        self.bytes += len(data)
        return data

    def written(self) -> Written:
        return Written(self.bytes, self._digest.hexdigest())


class _ZstdSource:
    """The compressed bytes, followed by an empty frame: a last frame that was cut short then fails its checksum."""

    def __init__(self, raw: Source) -> None:
        self._raw = raw
        self.over = False

    def read(self, count: int) -> bytes:
        data = self._raw.read(count)
        if data or self.over:
            return data
        self.over = True
        return _EMPTY_ZSTD_FRAME


class InputStream:
    """The decompressed archive, in order. A context manager: leaving it ends the thread.

    The first bytes decide whether it is encrypted and which compression it is, never a name. ``keys`` open it.
    ``within``: the stream begins inside an archive, and its end is not looked at.
    ``raw_bytes``: the bytes of the archive read so far, or before the position in it.
    Everything here raises ``DamageFound`` with the offset when the archive cannot be decompressed.
    """

    def __init__(
        self, stream: BinaryIO, *, foreign: bool = False, keys: Keys | None = None, within: Within | None = None
    ) -> None:
        self._raw = _Raw(stream, within.start.at if within else 0)
        self._within = within
        self._keys = keys or Keys()
        self._inside: Source = self._raw  # decrypted, where it is encrypted
        self._decrypted: Decrypted | None = None
        self._foreign = foreign
        self._queue: queue.Queue[bytes | None] = queue.Queue(_CHUNKS)
        self._failure: BaseException | None = None
        self._stopped = False
        self._ended = False
        self._chunk = _EMPTY
        self.offset = within.start.offset if within else 0  # position in the tar stream: what was handed out
        self._thread = threading.Thread(target=self._produce, name="read", daemon=True)
        self._thread.start()

    def __enter__(self) -> InputStream:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        while self._thread.is_alive():
            with contextlib.suppress(queue.Empty):
                while True:
                    self._queue.get_nowait()
            self._thread.join(0.005)
        self._stop_decrypting()

    def _stop_decrypting(self) -> None:
        if self._decrypted is not None:
            self._decrypted.stop()

    @property
    def raw_bytes(self) -> int:
        return self._raw.bytes

    def some(self, most: int) -> memoryview:
        """Between one and ``most`` bytes; none at the end of the stream."""
        if not self._chunk:
            self._next()
        part = self._chunk[:most]
        self._chunk = self._chunk[len(part) :]
        self.offset += len(part)
        return part

    def exactly(self, count: int) -> bytes:
        """This many bytes, or fewer where the stream ends."""
        if len(self._chunk) >= count:
            return bytes(self.some(count))
        parts = []
        while count and (part := self.some(count)):
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def rest(self) -> Written:
        """Read the archive to its end, whatever its state is; returns its bytes and hash."""
        with contextlib.suppress(DamageFound, KeyMissing):
            while self.some(MIB):
                pass
        self._thread.join()
        self._stop_decrypting()
        while self._raw.read():
            pass
        return self._raw.written()

    def _next(self) -> None:
        if self._ended:
            return
        chunk = self._queue.get()
        if chunk is not None:
            self._chunk = memoryview(chunk)
            return
        self._ended = True
        if self._failure is not None:
            raise self._failure

    def _produce(self) -> None:
        try:
            for chunk in self._decompressed():
                if self._stopped:
                    return
                self._queue.put(chunk)
        except ScriptoriumError as error:
            self._failure = error
        except BaseException as error:  # noqa: BLE001 -- raised again in the caller's thread
            self._failure = error
        finally:
            self._queue.put(None)

    def _decompressed(self) -> Iterator[bytes]:
        if self._within is not None:
            ways = {Compression.GZIP: self._inflated, Compression.ZSTD: self._unzstd}
            return ways.get(self._within.compression, lambda: iter(self._inside.read, b""))()
        if self._raw.peek(len(MAGIC)) == MAGIC:
            self._inside = self._decrypted = Decrypted(self._raw, self._keys)
        start = self._inside.peek(BLOCK)
        if start.startswith(_GZIP_MAGIC):
            return self._gunzipped()
        if start.startswith(_ZSTD_MAGIC):
            return self._unzstd()
        if _is_header(start):
            return iter(self._inside.read, b"")
        if len(start) < BLOCK:
            raise EndsEarly("the archive is empty" if not start else "the archive ends early", hint=_HINT)
        raise DamageFound("not an archive: neither gzip nor zstd nor tar", hint=_HINT)

    def _gunzipped(self) -> Iterator[bytes]:
        from isal import igzip_lib

        broken = cast("type[Exception]", igzip_lib.IsalError)
        member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        data = b""
        while True:
            if member.eof:
                data = member.unused_data or self._inside.read()
                if len(data) < len(_GZIP_MAGIC):
                    data += self._inside.read()
                if not data or (self._foreign and self._only_zeros(data)):
                    return
                if not data.startswith(_GZIP_MAGIC):
                    raise self._damaged("something else follows the end of the gzip stream")
                member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
            elif member.needs_input:
                data = self._inside.read()
                if not data:
                    raise EndsEarly(f"the gzip stream ends early, at byte {self._raw.bytes}", hint=_HINT)
            else:
                data = b""
            try:
                chunk: bytes = member.decompress(data, MIB)
            except broken as error:
                raise self._damaged(f"the gzip stream is broken ({error})") from None
            if chunk:
                yield chunk

    def _inflated(self) -> Iterator[bytes]:
        """Blocks inside a gzip member. Its check of the whole does not help here: each file has its hash."""
        from isal import igzip_lib

        broken = cast("type[Exception]", igzip_lib.IsalError)
        blocks = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_DEFLATE)
        while not blocks.eof:
            data = self._inside.read() if blocks.needs_input else b""
            if blocks.needs_input and not data:
                return
            try:
                chunk: bytes = blocks.decompress(data, MIB)
            except broken as error:
                raise self._damaged(f"the gzip stream is broken ({error})") from None
            if chunk:
                yield chunk

    def _only_zeros(self, data: bytes) -> bool:
        """Whether only zeros follow, which fill a block on a tape; reads all of them."""
        while data and not any(data):
            data = self._inside.read()
        return not data

    def _unzstd(self) -> Iterator[bytes]:
        import zstandard

        source = _ZstdSource(self._inside)
        stream = cast(BinaryIO, source)  # only its ``read`` is used
        with zstandard.ZstdDecompressor().stream_reader(stream, read_size=MIB, read_across_frames=True) as reader:
            while True:
                try:
                    chunk = reader.read(MIB)
                except zstandard.ZstdError as error:
                    if source.over:
                        raise EndsEarly(f"the zstd stream ends early, at byte {self._raw.bytes}", hint=_HINT) from None
                    raise self._damaged(f"the zstd stream is broken ({error})") from None
                if not chunk:
                    return
                yield chunk

    def _damaged(self, what: str) -> DamageFound:
        return DamageFound(f"{what}, near byte {self._raw.bytes}", hint=_HINT)


def _is_header(block: bytes) -> bool:
    """Whether these 512 bytes have the checksum of a tar header."""
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return False
    return True
