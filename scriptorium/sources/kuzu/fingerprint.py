"""The fingerprint of a table: the same rows give the same 64 hex digits, whatever the order of rows and columns.

``rows1``: every row is written as bytes, hashed with SHA-256, and the hashes are added up in four lanes of 64
bits, each modulo 2^64 (added, not xored, so that parallel edges count). docs/snapshots.md has the encoding in full.
It runs in the child that has the database open; pyarrow does the work column by column.
"""

from __future__ import annotations

import datetime
import hashlib
import itertools
import struct
from collections.abc import Sequence
from typing import Any

VERSION = "rows1"
_MASK = (1 << 64) - 1
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class Fingerprint:
    """Adds up the rows of one table, fed in any order and in any portions."""

    def __init__(self, kind: str, columns: Sequence[str]) -> None:
        """``kind``: ``node`` or ``rel``; ``columns``: the property names, sorted."""
        names = [name.encode("utf-8", "surrogateescape") for name in columns]
        head = f"{VERSION} {kind}\n".encode() + b"".join(b"%d:%s" % (len(name), name) for name in names)
        digest = hashlib.sha256(head).digest()
        self._lanes = [int.from_bytes(digest[at : at + 8], "big") for at in range(0, 32, 8)]
        self.rows = 0

    def add(self, columns: Sequence[Any]) -> None:
        """Add rows, given as encoded columns of equal length in the order of the row."""
        import numpy

        if len(columns[0]) == 0:
            return
        rows = _joined(columns)
        offsets, data = _parts(rows)
        ends = offsets.tolist()
        sha256 = hashlib.sha256
        digests = b"".join([sha256(data[a:b]).digest() for a, b in itertools.pairwise(ends)])
        lanes = numpy.frombuffer(digests, dtype=">u8").reshape(-1, 4).astype("u8").sum(axis=0, dtype="u8")
        self._lanes = [(old + int(new)) & _MASK for old, new in zip(self._lanes, lanes, strict=True)]
        self.rows += len(rows)

    def text(self) -> str:
        return f"{VERSION}:" + "".join(f"{lane:016x}" for lane in self._lanes)


def encode(column: Any) -> Any:
    """Each value of an Arrow array as bytes with their length: ``<length>:<bytes>``, a null as ``-``."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
        if isinstance(column, pa.ChunkedArray):  # no chunk at all, or too big for one
            column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    if column.null_count == len(column):
        return pa.repeat(pa.scalar(b"-", pa.large_binary()), len(column))
    plain = _plain(column)
    length = pc.cast(pc.cast(pc.binary_length(plain), pa.large_string()), pa.large_binary())
    wrapped = pc.binary_join_element_wise(length, plain, pa.scalar(b":", pa.large_binary()))
    if column.null_count:
        wrapped = pc.if_else(column.is_valid(), wrapped, pa.scalar(b"-", pa.large_binary()))
    return wrapped


def encode_objects(values: Sequence[Any]) -> Any:
    """The same for Python values: structs, whose Arrow form Kuzu writes wrongly if one is null."""
    import pyarrow as pa

    return pa.array([_object(value) for value in values], pa.large_binary())


def _object(value: Any) -> bytes:
    if value is None:
        return b"-"
    plain = _plain_object(value)
    return b"%d:%s" % (len(plain), plain)


def _plain_object(value: Any) -> bytes:
    if isinstance(value, dict):  # struct or map: by key, so that the order of a struct's fields does not matter
        return b"".join(key + _object(inner) for key, inner in sorted((_object(key), v) for key, v in value.items()))
    if isinstance(value, list):
        return b"".join(map(_object, value))
    if isinstance(value, bytes):
        return value
    if isinstance(value, bool):
        return b"1" if value else b"0"
    if isinstance(value, float):
        return str(struct.unpack("<q", struct.pack("<d", value))[0]).encode()
    if isinstance(value, datetime.datetime):
        since = value.replace(tzinfo=value.tzinfo or datetime.UTC) - _EPOCH
        return b"%d" % (since // datetime.timedelta(microseconds=1))
    if isinstance(value, datetime.date):
        return b"%d" % (value - _EPOCH.date()).days
    return str(value).encode("utf-8", "surrogateescape")


def _plain(column: Any) -> Any:
    """The values' bytes; where the column is null, they do not matter."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as of

    kind = column.type
    if of.is_map(kind):
        return _runs(column.offsets, _joined([encode(column.keys), encode(column.items)]))
    if of.is_list(kind) or of.is_large_list(kind):
        return _runs(column.offsets, encode(column.values))
    if of.is_fixed_size_list(kind):
        start = column.offset * kind.list_size
        return _runs(
            pa.array(range(start, start + (len(column) + 1) * kind.list_size, kind.list_size)), encode(column.values)
        )
    if of.is_decimal(kind):
        scaled = _unscaled(column)
        return pa.array(scaled, pa.large_string()).cast(pa.large_binary())
    if of.is_boolean(kind):
        column = column.cast(pa.int8())
    elif of.is_floating(kind) or of.is_temporal(kind):
        column = column.view(pa.int32() if kind.bit_width == 32 else pa.int64())
    elif not of.is_integer(kind):
        return column.cast(pa.large_binary())
    return pc.cast(pc.cast(column, pa.large_string()), pa.large_binary())


def _unscaled(column: Any) -> list[str | None]:
    """Decimals as the integers that they are stored as."""
    import decimal

    with decimal.localcontext(prec=80):
        return [None if value is None else str(int(value.scaleb(column.type.scale))) for value in column.to_pylist()]


def _joined(fields: Sequence[Any]) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    return fields[0] if len(fields) == 1 else pc.binary_join_element_wise(*fields, pa.scalar(b"", pa.large_binary()))


def _runs(offsets: Any, elements: Any) -> Any:
    """One value per list: the bytes of its elements, one after another, without copying them."""
    import numpy
    import pyarrow as pa

    ends, _ = _parts(elements)
    chosen = numpy.ascontiguousarray(ends[numpy.asarray(offsets)])
    data = elements.buffers()[2] or pa.py_buffer(b"")
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(chosen) - 1, [None, pa.py_buffer(chosen.tobytes()), data]
    )


def _parts(column: Any) -> tuple[Any, memoryview]:
    """The offsets (as numpy) and the bytes of a large_binary array."""
    import numpy

    _, offsets, data = column.buffers()
    ends = numpy.frombuffer(offsets, dtype="i8")[column.offset : column.offset + len(column) + 1]
    return ends, memoryview(data if data is not None else b"").cast("B")
