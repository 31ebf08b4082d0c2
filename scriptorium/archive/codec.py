"""Compression by blocks, so that several threads work on one stream that any ``tar`` can read.

gzip: one member; each block is deflated by isal with the 32 KiB before it as its dictionary and ends on a byte border,
so the pieces can be joined. zstd: one frame for each block. Blocks that do not shrink (pictures, zipped books) are
stored: igzip would need as long for them as for text, and save nothing.
"""

from __future__ import annotations

import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from scriptorium.words import Compression

if TYPE_CHECKING:
    import zstandard

MIB = 1 << 20

_GZIP_LEVEL = 1
_ZSTD_LEVEL = 2
_WINDOW = 32 << 10
_STORED = 65535
_RAW_DEFLATE = -15
_DEFLATED = 8
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # no name, no time: the same input gives the same bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """A compressed block: its bytes, and the CRC and length of what went in."""

    data: bytes | memoryview
    crc: int
    length: int


class Codec(Protocol):
    """``compress`` runs on many threads; ``opening``, ``joined`` and ``closing`` on one, in the order of the stream."""

    block_size: int

    def opening(self) -> bytes: ...

    def compress(self, block: memoryview, before: bytes) -> Piece:
        """Compress a block; ``before`` is the end of the block before it."""
        ...

    def joined(self, piece: Piece) -> bytes | memoryview: ...

    def closing(self) -> bytes: ...


def codec_for(compression: Compression) -> Codec:
    """The codec of an archive that is to be written."""
    if compression is Compression.GZIP:
        return Gzip()
    return Zstd() if compression is Compression.ZSTD else Plain()


class Plain:
    """No compression."""

    block_size = MIB

    def opening(self) -> bytes:
        return b""

    def compress(self, block: memoryview, before: bytes) -> Piece:
        return Piece(block, 0, len(block))

    def joined(self, piece: Piece) -> bytes | memoryview:
        return piece.data

    def closing(self) -> bytes:
        return b""


class Gzip:
    """One gzip member, made of blocks."""

    block_size = MIB

    def __init__(self) -> None:
        from isal import isal_zlib

        self._zlib = isal_zlib
        self._crc = 0
        self._length = 0

    def opening(self) -> bytes:
        return _GZIP_HEADER

    def compress(self, block: memoryview, before: bytes) -> Piece:
        crc: int = self._zlib.crc32(block)
        if not self._shrinks(block):
            return Piece(_stored(block), crc, len(block))
        deflate = self._zlib.compressobj(_GZIP_LEVEL, _DEFLATED, _RAW_DEFLATE, 8, 0, before[-_WINDOW:])
        data: bytes = deflate.compress(block) + deflate.flush(self._zlib.Z_SYNC_FLUSH)
        return Piece(data, crc, len(block))

    def _shrinks(self, block: memoryview) -> bool:
        """Whether a sample of the block (an eighth of it at most) gets smaller by a sixteenth or more."""
        if len(block) < 64 << 10:
            return True
        step = len(block) // 8
        sample = b"".join(block[start : start + 4096] for start in range(0, len(block), step))
        return len(self._zlib.compress(sample, 1, _RAW_DEFLATE)) < len(sample) * 15 // 16

    def joined(self, piece: Piece) -> bytes | memoryview:
        self._crc = self._zlib.crc32_combine(self._crc, piece.crc, piece.length)
        self._length += piece.length
        return piece.data

    def closing(self) -> bytes:
        return b"\x03\x00" + struct.pack("<II", self._crc, self._length & 0xFFFFFFFF)


def _stored(block: memoryview) -> bytes:
    """The block as deflate's stored blocks, which begin and end on byte borders."""
    parts: list[bytes | memoryview] = []
    for start in range(0, len(block), _STORED):
        part = block[start : start + _STORED]
        parts += (struct.pack("<BHH", 0, len(part), len(part) ^ 0xFFFF), part)
    return b"".join(parts)


class Zstd:
    """One zstd frame a block, each with its checksum."""

    block_size = 4 * MIB

    def __init__(self) -> None:
        self._kept = threading.local()  # a compressor has megabytes of tables: one for each thread

    def opening(self) -> bytes:
        return b""

    def compress(self, block: memoryview, before: bytes) -> Piece:
        return Piece(self._compressor().compress(block), 0, len(block))

    def _compressor(self) -> zstandard.ZstdCompressor:
        import zstandard

        kept: zstandard.ZstdCompressor | None = getattr(self._kept, "compressor", None)
        if kept is None:
            kept = self._kept.compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True)
        return kept

    def joined(self, piece: Piece) -> bytes | memoryview:
        return piece.data

    def closing(self) -> bytes:
        return b""
