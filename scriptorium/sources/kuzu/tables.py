"""Tables of Kuzu: a Parquet file for a node table, one for each pair of node tables that a relationship connects."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scriptorium import process
from scriptorium.errors import DamageFound, NotFound, ToolFailed
from scriptorium.model import Part
from scriptorium.sources.tables import BATCH_ROWS, Batch, Wanted
from scriptorium.sources.values import for_csv

if TYPE_CHECKING:
    import pyarrow as pa

_GUIDE = "copy.cypher"
_BATCH_BYTES = 16 << 20
_COPY = re.compile(r'COPY `?(?P<table>.+?)`?(?: \(.*\))? FROM "(?P<file>[^/]+\.parquet)" \((?P<how>.*)\);')
_END = re.compile(r"\b(from|to)='(.*?)'(?=, |$)")
_ESCAPED = re.compile(r"\\([\\'])")
_ENDS = {"a.": "from", "b.": "to"}


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the export; ``source`` and ``target``: the node tables that a relationship's rows connect."""

    table: Wanted
    source: str = ""
    target: str = ""


class KuzuTables:
    """The wanted tables of one part; ``folder`` is for what is spooled. ``NotFound`` when the part has no export."""

    def __init__(self, part: Part, wanted: Sequence[Wanted], folder: Path) -> None:
        if part.export is None:
            raise NotFound(
                "the backup holds no logical export of this database, so none of its tables",
                on=part.source,
                hint="`show` says why it has none; restore the raw copy into a folder and ask Kuzu itself",
            )
        self._at = part.export
        self._wanted = {one.table: one for one in wanted}
        self._folder = folder
        self._files: dict[str, _File] | None = None
        self._several: frozenset[str] = frozenset()
        self._left: set[str] = set()

    @property
    def lacking(self) -> Sequence[str]:
        return [f"{self._at}/{_GUIDE}"] if self._files is None else sorted(self._left)

    def may_guide(self, member: str) -> bool:
        return self.guide(member) is not None

    def guide(self, member: str) -> Path | None:
        return self._folder / _GUIDE if member == f"{self._at}/{_GUIDE}" else None

    def guided(self) -> bool:
        return (self._folder / _GUIDE).is_file()

    def follow(self) -> Sequence[Wanted]:
        files: dict[str, _File] = {}
        pairs: dict[str, int] = defaultdict(int)
        for line in (self._folder / _GUIDE).read_text("utf-8").split(";\n"):
            match = _COPY.fullmatch(f"{line.strip().removesuffix(';')};")
            if match and match["table"] in self._wanted:
                ends = {end: _ESCAPED.sub(r"\1", table) for end, table in _END.findall(match["how"])}
                file = _File(self._wanted[match["table"]], ends.get("from", ""), ends.get("to", ""))
                files[f"{self._at}/{match['file']}"] = file
                pairs[match["table"]] += 1
        if absent := self._wanted.keys() - pairs.keys():
            raise DamageFound("the export lacks a table", on=", ".join(sorted(absent)), hint="use another backup")
        self._files, self._left = files, set(files)
        self._several = frozenset(table for table, count in pairs.items() if count > 1)
        return ()

    def data(self, member: str) -> Path | None:
        return self._folder / "member.parquet" if member in self._left else None

    def read(self, member: str) -> Generator[Batch, None, None]:
        assert self._files is not None
        file = self._files[member]
        opened = _opened(self._folder / "member.parquet", member)
        empty = opened.schema_arrow.empty_table().to_batches() or [_no_rows(opened.schema_arrow)]
        for batch in (*empty, *opened.iter_batches(batch_size=_portion(opened.metadata))):
            yield Batch(file.table, batch.num_rows, self._shaped(file, batch))
        opened.close()
        self._left.discard(member)

    def rest(self) -> Generator[Batch, None, None]:
        yield from ()

    def close(self) -> None: ...

    def _shaped(self, file: _File, batch: pa.RecordBatch) -> pa.RecordBatch:
        """With the columns' own names; where a relationship connects several pairs of tables, with theirs too, and its
        ends as text, since their keys may be of different types."""
        import pyarrow as pa

        names = _names(batch.schema.names, relationship=bool(file.source))
        columns = list(batch.columns)
        if file.table.table in self._several:
            ends = [for_csv(column).cast(pa.string()) for column in columns[:2]]
            labels = [pa.repeat(pa.scalar(label, pa.string()), len(batch)) for label in (file.source, file.target)]
            columns = [labels[0], ends[0], labels[1], ends[1], *columns[2:]]
            names = ["from_table", names[0], "to_table", names[1], *names[2:]]
        return pa.RecordBatch.from_arrays(columns, names=names)


def _names(written: Sequence[str], *, relationship: bool) -> list[str]:
    """Kuzu writes ``a.title`` for a property of a node, and ``a.id``, ``b.id``, ``r.role`` for a relationship: its ends
    are called ``from`` and ``to`` here. A property of such a name keeps its ``r.``."""
    if not relationship:
        return [name.removeprefix("a.") for name in written]
    ends = [_ENDS.get(name[:2], name) for name in written[:2]]
    taken = {*ends, "from_table", "to_table"}
    return [*ends, *(name if name[2:] in taken else name.removeprefix("r.") for name in written[2:])]


def _no_rows(schema: pa.Schema) -> pa.RecordBatch:
    import pyarrow as pa

    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def _portion(metadata: Any) -> int:
    """How many rows at a time, so that long texts do not fill the memory."""
    size: int = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    rows: int = metadata.num_rows
    return max(1, min(BATCH_ROWS, _BATCH_BYTES * rows // max(size, 1)))


def _opened(file: Path, member: str) -> Any:
    """A ``pyarrow.parquet.ParquetFile``. One that pyarrow refuses (it knows no SERIAL) is written again by Kuzu."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(file)
    except (OSError, pa.ArrowException):
        again = file.with_name("again.parquet")
        again.unlink(missing_ok=True)
        script = Path(__file__).with_name("serial_child.py")
        try:
            process.run([sys.executable, "-P", str(script), str(file), str(again)])
            return parquet.ParquetFile(again)
        except (ToolFailed, OSError, pa.ArrowException) as error:
            raise DamageFound(f"the export cannot be read: {error}", on=member, hint="use another backup") from error
