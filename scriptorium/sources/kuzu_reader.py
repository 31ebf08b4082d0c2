"""The child that opens a Kuzu database: ``python -P …/kuzu_reader.py '<request as JSON>'``.

A damaged database may crash whoever opens it, so nobody else does. The request is one JSON object: ``do`` (``facts``
or ``import``), ``database``, ``engine`` (a folder to import kuzu from, or null), ``pool`` (bytes), ``storage_version``
(as the header says, or null), ``read_only``, ``export`` (a folder to export to, or to import from; or null). The
answers are JSON objects, one a line, on standard output: ``{"verdict": "ok", "engine": …, "tables": …}``, or a
verdict ``version``, ``missing`` or ``unreadable``; then, where an export was asked for, ``{"export": true}`` or why
there is none; at last ``{"closed": true}``.

It is run as a file and imports nothing of the package, so that it starts quickly and with the engine it was told.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PORTION_BYTES = 32 << 20  # of Arrow at a time
_FIRST_PORTION = 20_000  # rows
_SAMPLE = 50  # keys looked up by index in each portion
_LOOKED_UP = {"STRING", "INT64", "SERIAL", "INT32"}


def main(argv: list[str]) -> int:
    request = json.loads(argv[1])
    if request["engine"]:
        sys.path.insert(0, request["engine"])
    try:
        import kuzu
    except ImportError as error:
        return _say({"verdict": "missing", "detail": str(error)})
    reads = kuzu.Database.get_storage_version()
    found = request["storage_version"]
    if found is not None and found != reads:
        return _say({"verdict": "version", "engine": kuzu.__version__, "reads": reads})
    try:
        if request["do"] == "import":
            _import(kuzu, request)
        else:
            _facts(kuzu, request)
    except NotImplementedError:
        raise  # pyarrow's, and a fault of ours
    except (RuntimeError, IndexError, ValueError, MemoryError, OverflowError) as error:
        return _say({"verdict": "unreadable", "detail": f"{error}".strip()[:500]})
    return 0


def _say(answer: dict[str, Any]) -> int:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    return 0


def _open(kuzu: Any, request: dict[str, Any]) -> Any:
    return kuzu.Database(request["database"], buffer_pool_size=request["pool"], read_only=request["read_only"])


def _facts(kuzu: Any, request: dict[str, Any]) -> None:
    database = _open(kuzu, request)
    connection = kuzu.Connection(database)
    if not request["read_only"]:
        connection.execute("CHECKPOINT")
    tables, lossy = {}, []
    for name, kind in _tables(connection):
        columns = _columns(connection, name)
        lossy += [f"{name}.{column[0]} ({column[1]})" for column in columns if "INT128" in column[1]]
        tables[name] = _node(connection, name, columns) if kind == "NODE" else _rel(connection, name, columns)
    _say({"verdict": "ok", "engine": kuzu.__version__, "tables": tables})
    if request["export"]:
        _say({"export": _export(connection, request["export"], lossy)})
    connection.close()
    database.close()
    _say({"closed": True})


def _export(connection: Any, folder: str, lossy: list[str]) -> Any:
    if lossy:  # measured: Kuzu writes them as doubles and reads 0 for what does not fit
        return f"Kuzu's Parquet export does not keep {', '.join(lossy)}"
    try:
        connection.execute(f"EXPORT DATABASE '{_quoted(folder)}' (format='parquet')")
    except RuntimeError as error:
        return str(error)[:300]
    return True


def _import(kuzu: Any, request: dict[str, Any]) -> None:
    database = _open(kuzu, request)
    connection = kuzu.Connection(database)
    connection.execute(f"IMPORT DATABASE '{_quoted(request['export'])}'")
    connection.close()
    database.close()
    _say({"verdict": "ok", "engine": kuzu.__version__, "tables": {}})
    _say({"closed": True})


def _rows() -> Any:
    """The module ``kuzu_rows``, from beside this file."""
    if "kuzu_rows" not in sys.modules:
        spec = importlib.util.spec_from_file_location("kuzu_rows", Path(__file__).with_name("kuzu_rows.py"))
        assert spec is not None and spec.loader is not None
        sys.modules["kuzu_rows"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["kuzu_rows"])
    return sys.modules["kuzu_rows"]


def _tables(connection: Any) -> Iterator[tuple[str, str]]:
    """Name and kind (NODE, REL) of every table that holds rows itself."""
    for name, kind in sorted(_ask(connection, "CALL SHOW_TABLES() RETURN name, type")):
        if kind in ("NODE", "REL"):  # 0.10's REL_GROUP is listed beside its members
            yield name, kind


def _columns(connection: Any, table: str) -> list[tuple[str, str, bool]]:
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


def _node(connection: Any, table: str, columns: list[tuple[str, str, bool]]) -> dict[str, Any]:
    total = _rows().Fingerprint("node", [column[0] for column in columns])
    wanted = ", ".join(f"{_value('n', column)} AS c{at}" for at, column in enumerate(columns))
    key = next((at for at, column in enumerate(columns) if column[2] and column[1] in _LOOKED_UP), None)
    for portion in _portions(connection, f"MATCH (n:{_name(table)})", "n", wanted):
        total.add(portion.columns)
        if key is not None:
            _look_up(connection, table, columns[key][0], portion.column(key))
    return {"rows": total.rows, "fingerprint": total.text()}


def _rel(connection: Any, table: str, columns: list[tuple[str, str, bool]]) -> dict[str, Any]:
    import pyarrow as pa

    total = _rows().Fingerprint("rel", [column[0] for column in columns])
    pairs = _ask(connection, f"CALL SHOW_CONNECTION('{_quoted(table)}') RETURN *")
    for source, target, source_key, target_key in (row[:4] for row in pairs):
        match = f"MATCH (a:{_name(source)})-[r:{_name(table)}]->(b:{_name(target)})"
        ends = [("a", _key_column(connection, source, source_key)), ("b", _key_column(connection, target, target_key))]
        parts = [_value(*end) for end in ends] + [_value("r", column) for column in columns]
        wanted = ", ".join(f"{part} AS c{at}" for at, part in enumerate(parts))
        for portion in _portions(connection, match, "a", wanted):
            labels = [pa.repeat(pa.scalar(label), len(portion)) for label in (source, target)]
            first, second, *rest = portion.columns
            total.add([labels[0], first, labels[1], second, *rest])
    return {"rows": total.rows, "fingerprint": total.text()}


def _key_column(connection: Any, table: str, key: str) -> tuple[str, str, bool]:
    return next(column for column in _columns(connection, table) if column[0] == key)


def _portions(connection: Any, match: str, node: str, wanted: str) -> Iterator[Any]:
    """The rows as Arrow tables, in windows over the internal offsets of ``node``, so that memory is bounded."""
    count, last = _ask(connection, f"{match} RETURN count(*), max(offset(id({node})))")[0]
    if not count:
        return
    found, start, step = 0, 0, _FIRST_PORTION
    while start <= last:
        whole = start == 0 and last < step and count <= 2 * step
        window = "" if whole else f" WHERE offset(id({node})) >= {start} AND offset(id({node})) < {start + step}"
        portion = connection.execute(f"{match}{window} RETURN {wanted}").get_as_arrow(1 << 20)
        yield portion
        found += len(portion)
        start += step
        bytes_a_step = max(portion.nbytes, 1) / step
        step = max(1_000, min(int(_PORTION_BYTES / bytes_a_step), 4 * step))
    if found != count:
        raise RuntimeError(f"{match}: {count} rows counted, {found} read")


def _look_up(connection: Any, table: str, key: str, values: Any) -> None:
    """A torn copy may have rows that its index does not find."""
    every = max(1, len(values) // _SAMPLE)
    keys = (
        values[::every].to_pylist() if len(values) <= 1 else [values[at].as_py() for at in range(0, len(values), every)]
    )
    statement = f"UNWIND $keys AS k MATCH (n:{_name(table)}) WHERE n.{_name(key)} = k RETURN count(*)"
    found = _ask(connection, statement, {"keys": keys})[0][0]
    if found != len(keys):
        raise RuntimeError(f"the index of {table} finds {found} of {len(keys)} rows")


def _value(variable: str, column: tuple[str, str, bool]) -> str:
    """The expression for a property. Kuzu's Arrow crashes on unions and adds up an interval's parts."""
    text = f"{variable}.{_name(column[0])}"
    return f"CAST({text} AS STRING)" if "UNION(" in column[1] or "INTERVAL" in column[1] else text


def _name(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
