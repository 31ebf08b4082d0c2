"""Members with holes in archives of other programs: the data between the holes is stored, with a map of its positions.

GNU tar has written four forms: a type of its own with the map in the header, and three with the map in records of a pax
header (``0.0`` and ``0.1``), or before the data (``1.0``). We write none of them, and read all of them.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from scriptorium.errors import DamageFound

_BLOCK = tarfile.BLOCKSIZE
_NUMBER = 12
_IN_HEADER, _IN_FURTHER = (386, 4), (0, 21)  # where the map begins, and how many pairs there are at most
_MORE_IN_HEADER, _MORE_IN_FURTHER, _REAL_SIZE = 482, 504, 483
_MOST = 1_000_000
_ZEROS = bytes(1 << 20)
_LINE = 24
Exactly = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Layout:
    """``size``: of the whole file; ``pieces``: where each piece of the stored data begins, and how long it is;
    ``stored``: the bytes of all of them."""

    size: int
    pieces: tuple[tuple[int, int], ...]

    @property
    def stored(self) -> int:
        return sum(length for _, length in self.pieces)

    def spread(self, stored: Callable[[int], Iterator[memoryview]]) -> Iterator[memoryview]:
        """The contents with their holes as zeros; ``stored`` returns that many of the stored bytes."""
        at = 0
        for offset, length in self.pieces:
            yield from _hole(offset - at)
            yield from stored(length)
            at = offset + length
        yield from _hole(self.size - at)


def layout_of(block: bytes, kind: bytes, extended: dict[bytes, bytes], exactly: Exactly) -> tuple[Layout, int] | None:
    """The map of a member, and how many bytes of its data the map took; ``None`` if the member has no holes.

    ``exactly`` reads more: further headers, or the map before the data. Raises ``DamageFound``.
    """
    try:
        if kind == tarfile.GNUTYPE_SPARSE and block[257:265] == tarfile.GNU_MAGIC:
            return _in_headers(block, exactly), 0
        if extended.get(b"GNU.sparse.major") == b"1":
            pieces, taken = _before_data(exactly)
            return _checked(int(extended[b"GNU.sparse.realsize"]), pieces), taken
        if b"GNU.sparse.map" in extended:
            numbers = [int(number) for number in extended[b"GNU.sparse.map"].split(b",") if number]
            return _checked(int(extended[b"GNU.sparse.size"]), _paired(numbers)), 0
    except (ValueError, KeyError, IndexError) as error:
        raise _broken() from error
    return None


def _in_headers(block: bytes, exactly: Exactly) -> Layout:
    pieces = _pairs(block, *_IN_HEADER)
    more = block[_MORE_IN_HEADER]
    while more and len(pieces) < _MOST:
        further = exactly(_BLOCK)
        pieces += _pairs(further, *_IN_FURTHER)
        more = further[_MORE_IN_FURTHER]
    return _checked(_number(block[_REAL_SIZE : _REAL_SIZE + _NUMBER]), pieces)


def _pairs(block: bytes, at: int, most: int) -> list[tuple[int, int]]:
    found = []
    for begin in range(at, at + most * 2 * _NUMBER, 2 * _NUMBER):
        offset, length = block[begin : begin + _NUMBER], block[begin + _NUMBER : begin + 2 * _NUMBER]
        if not offset.strip(b"\0 "):
            break
        found.append((_number(offset), _number(length)))
    return found


def _number(field: bytes) -> int:
    """Octal digits, or, for what is larger, a number of base 256."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    return int(field.rstrip(b"\0 ") or b"0", 8)


def _before_data(exactly: Exactly) -> tuple[list[tuple[int, int]], int]:
    """A line for each number, the count of pairs first, in whole blocks."""
    waiting, taken = b"", 0

    def line() -> int:
        nonlocal waiting, taken
        while b"\n" not in waiting:
            block = exactly(_BLOCK)
            if len(waiting) > _LINE or len(block) < _BLOCK:
                raise ValueError(waiting[:_LINE])
            waiting += block
            taken += _BLOCK
        number, _, waiting = waiting.partition(b"\n")
        return int(number)

    count = line()
    if not 0 <= count <= _MOST:
        raise ValueError(count)
    return _paired([line() for _ in range(2 * count)]), taken


def _paired(numbers: list[int]) -> list[tuple[int, int]]:
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _checked(size: int, pieces: list[tuple[int, int]]) -> Layout:
    at = 0
    for offset, length in pieces:
        if offset < at or length < 0:
            raise _broken()
        at = offset + length
    if at > size:
        raise _broken()
    return Layout(size, tuple(pieces))


def _hole(count: int) -> Iterator[memoryview]:
    while count:
        part = min(count, len(_ZEROS))
        yield memoryview(_ZEROS)[:part]
        count -= part


def _broken() -> DamageFound:
    return DamageFound("the map of a file with holes is broken", hint="use another copy of it")
