"""The child that opens a Kuzu database: ``python -P …/reader_child.py '<request as JSON>'``.

A damaged database may crash the process that opens it, so only this child does. The request is one JSON object: ``do``
(``fingerprints``), ``database``, ``engine`` (a folder to import kuzu from, or null), ``pool`` (bytes), ``virtual``
(bytes of address space, where that is limited), ``storage_version`` (as the header says, or null), ``read_only``,
``statements`` (queries by name). The answers are JSON objects, one a line, on standard output: first ``{"verdict":
"ok", "engine": …, "tables": …, "missing": …}`` (tables without fingerprints, and why), or a verdict ``version``,
``missing`` or ``unreadable``; then a line for each statement; at last ``{"closed": true}``. Exports are the work of
``builder``.

It is run as a file and imports nothing of the package, so that it starts quickly and with the requested engine.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import json
import os
import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PORTION_BYTES = 48 << 20  # of Arrow at a time
Column = tuple[str, str, bool]  # name, type, whether it is the primary key
_FIRST_PORTION = 1_500_000  # cells; the size of later portions depends on the bytes of this one
_SAMPLE = 50  # so many keys of each portion are looked up by the index
_LOOKED_UP = {"STRING", "INT64", "SERIAL", "INT32"}
# The engine's errors begin so if a statement of ours is wrong or names nothing. That happens for names that its own
# statements cannot express, never for damaged rows.
_NOT_EXPRESSED = ("Binder exception", "Parser exception", "Catalog exception", "Runtime exception: No database named")
_SCARCE = ("buffer pool", "Buffer manager exception", "bad_alloc", "malloc of size", "allocate")
# Errors of Python if it has no such value (a year of six digits): the engine has it, and the copy is sound.
_NOT_HELD = re.compile(r" out of range|must be in \d")
_NO_VALUE = "Python cannot hold a value of it"
_NO_TEXT = "a text of it is no UTF-8: it may be damaged; look at it in the application, and keep older backups"


def main(argv: list[str]) -> int:
    gc.set_threshold(10_000)  # what is imported stays: the default spends a quarter of its time on looking for cycles
    request = json.loads(argv[1])
    with contextlib.suppress(OSError):  # if memory is short, the kernel must end this process and not the application
        Path("/proc/self/oom_score_adj").write_text("1000")
    sys.meta_path.insert(0, _NoPandas())
    if request["engine"]:
        sys.path.insert(0, request["engine"])
    try:
        import kuzu
    except ImportError as error:
        return _answer_with({"verdict": "missing", "detail": str(error)})
    reads = kuzu.Database.get_storage_version()
    found = request["storage_version"]
    if found is not None and found != reads:
        return _answer_with({"verdict": "version", "engine": kuzu.__version__, "reads": reads})
    _module("fingerprint")
    _module("confinement").confine()
    try:
        _fingerprints(kuzu, request)
    except NotImplementedError:
        raise  # pyarrow's, and a fault of ours
    except (RuntimeError, IndexError, ValueError, MemoryError, OverflowError) as error:
        return _answer_with({"verdict": "unreadable", "detail": _message(error)})
    return 0


class _NoPandas:
    """pyarrow and kuzu load pandas if it is installed, which takes a second and is not needed here."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def _answer_with(answer: dict[str, Any]) -> int:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    return 0


def _message(error: BaseException) -> str:
    """The text of an error; without text, its name."""
    return (f"{error}".strip() or type(error).__name__)[:500]


def _open(kuzu: Any, request: dict[str, Any]) -> Any:
    options: dict[str, Any] = {"buffer_pool_size": request["pool"], "max_num_threads": min(4, os.cpu_count() or 1)}
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        options["max_db_size"] = request["virtual"]
    return kuzu.Database(request["database"], read_only=request["read_only"], **options)


def _fingerprints(kuzu: Any, request: dict[str, Any]) -> None:
    database = _open(kuzu, request)
    connection = kuzu.Connection(database)
    tables: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for name, kind in _tables(connection):
        try:
            columns = _columns(connection, name)
            tables[name] = _node(connection, name, columns) if kind == "NODE" else _rel(connection, name, columns)
        except (RuntimeError, MemoryError, ValueError, OverflowError) as error:
            message = _message(error)
            if isinstance(error, (ValueError, OverflowError)):
                if not _is_not_held(error):
                    raise
                message = f"{_NO_TEXT if isinstance(error, UnicodeDecodeError) else _NO_VALUE}: {message}"
            elif not isinstance(error, (MemoryError, NotImplementedError)) and not _is_no_damage(message):
                raise
            missing[name] = f"MemoryError: {message}" if isinstance(error, MemoryError) else message
    _answer_with({"verdict": "ok", "engine": kuzu.__version__, "tables": tables, "missing": missing})
    for statement, query in request["statements"].items():
        _answer_with({"statement": statement, **_answer(connection, query)})
    connection.close()
    database.close()
    _answer_with({"closed": True})


def _is_no_damage(message: str) -> bool:
    """Whether an error while a table is read is no sign of damage."""
    return message.startswith(_NOT_EXPRESSED) or any(word in message for word in _SCARCE)


def _is_not_held(error: ValueError | OverflowError) -> bool:
    return isinstance(error, (OverflowError, UnicodeError)) or _NOT_HELD.search(str(error)) is not None


def _answer(connection: Any, query: str) -> dict[str, Any]:
    """The rows of a query as text. A table that this library does not have is no damage."""
    try:
        rows = _ask(connection, query)
    except (RuntimeError, MemoryError, ValueError, OverflowError) as error:
        return {"trouble": f"MemoryError: {_message(error)}" if isinstance(error, MemoryError) else _message(error)}
    return {"rows": [[None if value is None else str(value) for value in row] for row in rows]}


def _rows() -> Any:
    return _module("fingerprint")


def _module(name: str) -> Any:
    """A module in the folder of this file."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def _tables(connection: Any) -> Iterator[tuple[str, str]]:
    """Name and kind (NODE, REL) of every table that holds rows itself."""
    for name, kind in sorted(_ask(connection, "CALL SHOW_TABLES() RETURN name, type")):
        if kind in ("NODE", "REL"):  # 0.10 lists a REL_GROUP besides its members
            yield name, kind


def _columns(connection: Any, table: str) -> list[Column]:
    """Name, type and whether it is the primary key, sorted by name."""
    answer = connection.execute(f"CALL TABLE_INFO('{_quoted(table)}') RETURN *")
    names = answer.get_column_names()
    name, kind = names.index("name"), names.index("type")
    key = names.index("primary key") if "primary key" in names else None  # relationship tables have none
    return sorted((row[name], row[kind], key is not None and row[key] is True) for row in _all(answer))


def _ask(connection: Any, question: str, parameters: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
    return _all(connection.execute(question, parameters or {}))


def _all(answer: Any) -> list[tuple[Any, ...]]:
    rows = []
    while answer.has_next():
        rows.append(tuple(answer.get_next()))
    return rows


def _node(connection: Any, table: str, columns: list[Column]) -> dict[str, Any]:
    total = _rows().Fingerprint("node", [column[0] for column in columns])
    key = next((at for at, column in enumerate(columns) if column[2] and column[1] in _LOOKED_UP), None)
    match = f"MATCH (n:{_name(table)})"
    for portion, keys in _portions(connection, match, "n", "n", [("n", column) for column in columns], key):
        total.add(portion)
        if key is not None:
            _look_up(connection, table, columns[key][0], keys)
    return {"rows": total.rows, "fingerprint": total.text()}


def _rel(connection: Any, table: str, columns: list[Column]) -> dict[str, Any]:
    import pyarrow as pa

    total = _rows().Fingerprint("rel", [column[0] for column in columns])
    pairs = _ask(connection, f"CALL SHOW_CONNECTION('{_quoted(table)}') RETURN *")
    for source, target, source_key, target_key in (row[:4] for row in pairs):
        match = f"MATCH (a:{_name(source)})-[r:{_name(table)}]->(b:{_name(target)})"
        ends = [("a", _key_column(connection, source, source_key)), ("b", _key_column(connection, target, target_key))]
        parts = ends + [("r", column) for column in columns]
        for portion, _ in _portions(connection, match, "a", "r", parts, None):
            labels = [_rows().encode(pa.repeat(pa.scalar(label), len(portion[0]))) for label in (source, target)]
            total.add([labels[0], portion[0], labels[1], *portion[1:]])
    return {"rows": total.rows, "fingerprint": total.text()}


def _key_column(connection: Any, table: str, key: str) -> Column:
    return next(column for column in _columns(connection, table) if column[0] == key)


def _portions(
    connection: Any, match: str, node: str, row: str, parts: list[tuple[str, Column]], raw: int | None
) -> Iterator[tuple[list[Any], Any]]:
    """The rows as encoded columns (and the column ``raw`` as it is), in windows over the internal offsets of ``node``,
    so that memory is bounded. ``row``: the variable whose offset orders the rows."""
    count, last = _ask(connection, f"{match} RETURN count(*), max(offset(id({node})))")[0]
    found, start, step = 0, 0, max(1_000, _FIRST_PORTION // max(len(parts), 8))
    while count and start <= last:
        whole = start == 0 and last < step and count <= 2 * step
        window = "" if whole else f" WHERE offset(id({node})) >= {start} AND offset(id({node})) < {start + step}"
        columns, size, plain = _portion(connection, match + window, row, parts, raw)
        yield columns, plain
        found += len(columns[0])
        start += step
        step = max(1_000, min(int(_PORTION_BYTES * step / max(size, 1)), 4 * step))
    if found != count:
        raise RuntimeError(f"{match}: {count} rows counted, {found} read")


def _portion(
    connection: Any, match: str, row: str, parts: list[tuple[str, Column]], raw: int | None
) -> tuple[list[Any], int, Any]:
    slow = [at for at, (_, column) in enumerate(parts) if _is_slow(column)]
    order = f" ORDER BY offset(id({row}))" if slow else ""
    columns: list[Any] = [None] * len(parts)
    size, plain = 0, None
    fast = [at for at in range(len(parts)) if at not in slow]
    if fast:
        wanted = ", ".join(f"{_value(*parts[at])} AS c{at}" for at in fast)
        table = connection.execute(f"{match} RETURN {wanted}{order}").get_as_arrow(1 << 20)
        size = table.nbytes
        plain = None if raw is None else table.column(f"c{raw}")
        for at in fast:
            columns[at] = _rows().encode(table.column(f"c{at}"))
    if slow:
        wanted = ", ".join(f"{_value(*parts[at])} AS c{at}" for at in slow)
        rows = _all(connection.execute(f"{match} RETURN {wanted}{order}"))
        for place, at in enumerate(slow):
            columns[at] = _rows().encode_objects([values[place] for values in rows])
            size += columns[at].nbytes
    return columns, size, plain


def _look_up(connection: Any, table: str, key: str, values: Any) -> None:
    """An inconsistent copy may have rows that its index does not find."""
    every = max(1, len(values) // _SAMPLE)
    keys = (
        values[::every].to_pylist() if len(values) <= 1 else [values[at].as_py() for at in range(0, len(values), every)]
    )
    statement = f"UNWIND $keys AS k MATCH (n:{_name(table)}) WHERE n.{_name(key)} = k RETURN count(*)"
    found = _ask(connection, statement, {"keys": keys})[0][0]
    if found != len(keys):
        raise RuntimeError(f"the index of {table} finds {found} of {len(keys)} rows")


def _value(variable: str, column: Column) -> str:
    """The expression for a property. Kuzu's Arrow crashes on unions and adds up an interval's parts."""
    text = f"{variable}.{_name(column[0])}"
    return f"CAST({text} AS STRING)" if _is_text(column) else text


def _is_text(column: Column) -> bool:
    return "UNION(" in column[1] or "INTERVAL" in column[1]


def _is_slow(column: Column) -> bool:
    """Kuzu leaves a null struct's fields out of its Arrow arrays: later values are shifted, or read from outside."""
    return "STRUCT(" in column[1] and not _is_text(column)


def _name(name: str) -> str:
    """A name as Kuzu writes it: two backticks within stand for themselves, both of them (measured with 0.11.3)."""
    return f"`{name}`"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


if __name__ == "__main__":
    status = main(sys.argv)
    gc.freeze()  # at its end the interpreter would look for cycles in everything that is left
    sys.exit(status)
