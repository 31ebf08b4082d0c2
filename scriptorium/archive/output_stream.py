"""Writes an archive: blocks are filled, compressed, hashed and written by different threads at once.

The caller fills a block (files are read straight into it), a pool compresses, and one thread hashes and writes the
pieces in order. All of that releases the interpreter's lock. The number of blocks in work is limited, and so is memory.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from array import array
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, Protocol

from scriptorium.archive.codec import Codec, Piece
from scriptorium.archive.written import Written
from scriptorium.fs.descriptors import write_whole

_MOST_WORKERS = 8
_WINDOW = 32 << 10


def processors() -> int:
    """How many processors this process may use, up to the number from which more threads bring no gain."""
    return max(1, min(len(os.sched_getaffinity(0)), _MOST_WORKERS))


class Target(Protocol):
    """Where the pieces of the archive are written, in order."""

    def put(self, data: bytes | memoryview) -> None: ...

    def finish(self) -> Written:
        """Everything has reached the file when this returns."""
        ...

    def close(self) -> None: ...


class PlainFile:
    """A file into which everything is written as it is."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._digest = hashlib.sha256()
        self._bytes = 0

    def put(self, data: bytes | memoryview) -> None:
        self._digest.update(data)
        self._bytes += len(data)
        write_whole(self._descriptor, data)

    def finish(self) -> Written:
        return Written(self._bytes, self._digest.hexdigest())

    def close(self) -> None:
        """Nothing is open."""


class OutputStream:
    """A stream into a file. Use as a context manager: leaving it ends the threads, also after an error."""

    def __init__(self, target: Target, codec: Codec) -> None:
        workers = processors()
        self._codec = codec
        self._target = target
        self._failure: BaseException | None = None
        self._pool = ThreadPoolExecutor(workers, "compress")
        self._order: queue.SimpleQueue[tuple[Future[Piece], bytearray] | Literal["entry"] | None] = queue.SimpleQueue()
        self._spare: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        for _ in range(2 * workers + 2):
            self._spare.put(bytearray(codec.block_size))
        self._before = b""
        self._block = self._spare.get()
        self._view = memoryview(self._block)
        self._used = 0
        self._put = 0  # bytes that went out, before they are encrypted
        self.length = 0  # bytes that went in
        self.entries = array("Q")  # where what follows each ``begin_anew`` begins in what went out
        self._out(codec.opening())
        self._writer = threading.Thread(target=self._write_all, name="write", daemon=True)
        self._writer.start()

    def __enter__(self) -> OutputStream:
        return self

    def __exit__(self, *_: object) -> None:
        self._order.put(None)
        self._writer.join()
        self._pool.shutdown(cancel_futures=True)
        self._target.close()

    def buffer(self) -> memoryview:
        """The free rest of the current block, never empty: fill some of it, then say how much with ``filled``."""
        return self._view[self._used :]

    def filled(self, count: int) -> None:
        self._used += count
        self.length += count
        if self._used == len(self._block):
            self._hand_over()

    def write(self, data: bytes | memoryview) -> None:
        """Append these bytes."""
        size, start = len(data), 0
        while start < size:
            count = min(len(self._block) - self._used, size - start)
            self._view[self._used : self._used + count] = data[start : start + count]
            self.filled(count)
            start += count

    def zeros(self, count: int) -> None:
        """Append this many zero bytes."""
        block = bytes(min(count, self._codec.block_size))
        while count > 0:
            self.write(block[:count])
            count -= min(count, len(block))

    def begin_anew(self) -> None:
        """What follows can be decompressed without what came before."""
        if self._used:
            self._hand_over()
        self._before = b""
        self._order.put("entry")

    def finish(self) -> Written:
        """Write what is left and the end of the stream; everything has reached the file when this returns."""
        if self._used:
            self._hand_over()
        self._order.put(None)
        self._writer.join()
        self._raise_failure()
        self._out(self._codec.closing())
        return self._target.finish()

    def _hand_over(self) -> None:
        self._raise_failure()
        block, view = self._block, self._view[: self._used]
        piece = self._pool.submit(self._codec.compress, view, self._before)
        self._before = bytes(view[-_WINDOW:])
        self._order.put((piece, block))
        self._block = self._spare.get()  # waits while too many are in work
        self._view = memoryview(self._block)
        self._used = 0

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _out(self, data: bytes | memoryview) -> None:
        self._put += len(data)
        self._target.put(data)

    def _write_all(self) -> None:
        while (item := self._order.get()) is not None:
            if item == "entry":
                self.entries.append(self._put)
                continue
            piece, block = item
            try:
                if self._failure is None:
                    self._out(self._codec.joined(piece.result()))
                else:
                    piece.cancel()
            except BaseException as error:  # noqa: BLE001 -- handed to the caller's thread
                self._failure = error
            finally:
                self._spare.put(block)
