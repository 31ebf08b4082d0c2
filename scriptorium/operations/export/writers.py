"""CSV, JSON and Parquet, written batch by batch.

CSV: UTF-8, a line of names, quotes as in RFC 4180 (text always has them), NULL as nothing and the empty text as ``""``.
JSON: one array; each row is an object on its own line. Values are written unchanged, also what looks like a formula.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from scriptorium.errors import DamageFound, UsageError
from scriptorium.sources.values import for_csv, for_json

if TYPE_CHECKING:
    import pyarrow as pa


class Writer(Protocol):
    """Writes rows into an open file, which its caller closes."""

    def write(self, rows: int, batch: pa.RecordBatch) -> None:
        """``rows``: the number of rows, which a batch without columns lacks. All batches have the same columns."""
        ...

    def close(self) -> None: ...


class CsvWriter:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._writer: Any = None
        self._schema: Any = None

    def write(self, rows: int, batch: pa.RecordBatch) -> None:
        import pyarrow as pa
        from pyarrow import csv

        if not batch.num_columns:
            self._file.write(b"\n" * (rows + (self._file.tell() == 0)))  # an empty line of names, and empty rows
            return
        columns = [for_csv(column) for column in batch.columns]
        plain = pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
        if self._writer is None:
            self._schema = plain.schema
            self._writer = csv.CSVWriter(self._file, plain.schema)
        if plain.schema != self._schema:  # the writer would crash
            raise DamageFound("a table has different columns in different places", on=", ".join(plain.schema.names))
        self._writer.write_batch(plain)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class JsonWriter:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._next = b"[\n"

    def write(self, rows: int, batch: pa.RecordBatch) -> None:
        names = batch.schema.names
        columns = [for_json(column) for column in batch.columns]
        for values in zip(*columns, strict=True) if columns else [()] * rows:
            line = json.dumps(dict(zip(names, values, strict=True)), ensure_ascii=False, allow_nan=False)
            self._file.write(self._next + line.encode("utf-8"))
            self._next = b",\n"

    def close(self) -> None:
        self._file.write(b"\n]\n" if self._next == b",\n" else b"[]\n")


class ParquetWriter:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._writer: Any = None

    def write(self, rows: int, batch: pa.RecordBatch) -> None:
        from pyarrow import parquet

        if not batch.num_columns and rows:
            raise UsageError("Parquet has no rows without columns", hint="export this table as csv or json")
        if self._writer is None:
            self._writer = parquet.ParquetWriter(self._file, batch.schema)
        if rows:
            self._writer.write_batch(batch)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


WRITERS: Mapping[str, type[CsvWriter] | type[JsonWriter] | type[ParquetWriter]] = {
    "csv": CsvWriter,
    "json": JsonWriter,
    "parquet": ParquetWriter,
}
FORMATS = tuple(WRITERS)
