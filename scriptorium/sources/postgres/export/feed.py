"""Rows of a dump that is read in pieces: each piece is written to ``pg_restore``, and its output is read meanwhile."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from scriptorium import process
from scriptorium.errors import DamageFound
from scriptorium.sources.postgres.export.copy_text import Copied, Value, copied
from scriptorium.sources.postgres.programs import Program
from scriptorium.sources.tables import BATCH_ROWS

if TYPE_CHECKING:
    import pyarrow as pa

_PIPE = -1  # subprocess.PIPE
_CHUNK = 1 << 20
_BATCH_CHARACTERS = 8 << 20


@dataclass(frozen=True, slots=True)
class Portion:
    """Some rows of one table, by its schema and name."""

    name: tuple[str, ...]
    columns: tuple[str, ...]
    rows: list[list[Value]]


class Feed:
    """The tables of the list ``chosen`` (in the dump's own order) from a dump that is given in pieces.

    ``done``: all of their rows have been read. ``DamageFound`` if the dump is damaged.
    """

    def __init__(self, program: Program, chosen: Path, codec: str) -> None:
        argv = [program.path, "--data-only", f"--use-list={chosen}", "--file=-"]
        self._codec = codec
        self._messages = chosen.with_name("messages")
        with self._messages.open("wb") as messages:
            self._child = process.start(argv, env={"LC_ALL": "C"}, stdin=_PIPE, stderr=messages.fileno())
        self._portions: queue.SimpleQueue[Portion | BaseException | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True, name="rows")
        self._reader.start()
        self.done = False

    def _read(self) -> None:
        """Runs on a thread, so that pg_restore and we never wait for each other."""
        text = cast(BinaryIO, self._child.stdout)
        end: BaseException | None = None
        try:
            while (found := copied(text, self._codec)) is not None:
                for rows in portions(found):
                    self._portions.put(Portion(found.name, found.columns, rows))
        except BaseException as error:  # noqa: BLE001 -- handed to the caller's thread
            end = error
        self._portions.put(end)
        with contextlib.suppress(ValueError, OSError):  # closed: the rest is not needed
            for _ in text:  # otherwise pg_restore stops reading, and `give` never sees the error
                pass

    def give(self, piece: Path) -> Generator[Portion, None, None]:
        """Write one piece; yields the rows that were read meanwhile. Once all rows are read, the rest is ignored."""
        assert self._child.stdin is not None
        with piece.open("rb") as file:
            while not self.done and (chunk := file.read(_CHUNK)):
                try:
                    self._child.stdin.write(chunk)
                    self._child.stdin.flush()
                except BrokenPipeError:  # pg_restore has written all rows, or has failed
                    yield from self.rest()
                    return
                while not self.done and not self._portions.empty():
                    yield from self._next()

    def rest(self) -> Generator[Portion, None, None]:
        """Called after the last piece: yields the remaining rows."""
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.close()
        while not self.done:
            yield from self._next()

    def _next(self) -> Iterator[Portion]:
        item = self._portions.get()
        if isinstance(item, Portion):
            yield item
            return
        status = self._child.wait() if item is None else self._child.poll() or 0
        if status != 0:
            message = self._messages.read_text("utf-8", "replace").strip()[-200:]
            raise DamageFound(f"the dump cannot be read: {message}", hint="use another copy of this backup")
        if item is not None:
            raise item
        self.done = True

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            process.end(self._child)
        self._reader.join(timeout=10)


def portions(found: Copied) -> Iterator[list[list[Value]]]:
    """The rows in portions. The first one is empty: it shows the columns."""
    yield []
    rows: list[list[Value]] = []
    characters = 0
    for row in found.rows:
        rows.append(row)
        characters += sum(len(value) for value in row if value)
        if len(rows) == BATCH_ROWS or characters > _BATCH_CHARACTERS:
            yield rows
            rows, characters = [], 0
    if rows:
        yield rows


def arrow(columns: Sequence[str], rows: list[list[Value]]) -> pa.RecordBatch:
    import pyarrow as pa

    values = list(zip(*rows, strict=True)) if rows else [()] * len(columns)
    return pa.RecordBatch.from_arrays([pa.array(column, pa.string()) for column in values], names=list(columns))
