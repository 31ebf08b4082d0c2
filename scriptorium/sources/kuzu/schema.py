"""What a database has besides its rows, and how the export carries it: defaults, comments, counters, indexes.

Kuzu's own export writes no defaults and no comments, advances a sequence that was never used, and refers to the words
of a text index by the path of the current folder. Its ``schema.cypher`` and ``index.cypher`` are therefore written
again, in Kuzu's form, so that ``IMPORT DATABASE`` by hand gives the same result. It runs in the child that has the
database open.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

_STRING = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
_SIGN_LOST = re.compile(r"(?:^|[-+*/%^<>=(,\[{:])\s*[0-9.]")  # measured: Kuzu reports -3 as 3
_PLAIN = re.compile(r"\w[\w .;,-]*")  # of a file's name, which is read as a pattern by COPY
Catalog = dict[str, Any]
Renamed = dict[tuple[str, str], str]  # table and column -> temporary name of the column until its rows are imported


def _statements() -> Any:
    """The module ``statements``, from beside this file."""
    if "statements" not in sys.modules:
        spec = importlib.util.spec_from_file_location("statements", Path(__file__).with_name("statements.py"))
        assert spec is not None and spec.loader is not None
        sys.modules["statements"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["statements"])
    return sys.modules["statements"]


def catalog(connection: Any) -> Catalog:
    """What the database consists of, by names that a person understands: each with its properties as text."""
    found: Catalog = {}
    for table, kind, comment in _rows(connection, "CALL SHOW_TABLES() RETURN name, type, comment"):
        if kind not in ("NODE", "REL"):
            continue
        found[f"table {table}"] = kind
        found[f"comment of {table}"] = comment
        for column in _columns(connection, table):
            where = f"column {table}.{column['name']}"
            found[where] = f"{column['type']}, key" if column.get("primary key") is True else column["type"]
            found[f"default of {table}.{column['name']}"] = column.get("default expression", "")
            found[f"direction of {table}"] = column.get("storage_direction", "")
        if kind == "REL":
            for pair in _rows(connection, f"CALL SHOW_CONNECTION({_quoted(table)}) RETURN *"):
                found[f"relationship {table} from {pair[0]} to {pair[1]}"] = "there"
    future = {now: then for then, now in _serials(connection).items()}
    for sequence in _sequences(connection):
        name = future.get(sequence["name"], sequence["name"])
        found[f"sequence {name}"] = ", ".join(
            f"{key} {sequence[key]}" for key in ("increment", "min value", "max value", "cycle")
        )
        found[f"next value of {name}"] = _current(connection, sequence["name"])
    for index in _indexes(connection):
        found[f"index {index['index_name']} of {index['table_name']}"] = (
            f"{index['index_type']} {index['property_names']}"
        )
    return found


def names(connection: Any) -> list[list[Any]]:
    """The name of each table: an export has a file that is called by it."""
    return _rows(connection, "CALL SHOW_TABLES() RETURN name")


def mend(connection: Any, folder: Path) -> list[str]:
    """Write ``schema.cypher`` and ``index.cypher`` of an export again. Returns what they may not carry, by name."""
    module = _statements()
    doubtful: list[str] = []
    displaced: Renamed = {}
    schema = list(module.statements((folder / "schema.cypher").read_text("utf-8")))
    lines = [*_counters(connection, _serials(connection), serial=False)]
    after = []
    for statement in schema:
        words = [token.word for token in statement[:3]]
        if words[1:2] == ["SEQUENCE"] or words[:1] == ["RETURN"]:
            continue  # written by us, from the database's own catalog
        if words == ["CREATE", "NODE", "TABLE"] or words == ["CREATE", "REL", "TABLE"]:
            after.append(_with_defaults(connection, statement, doubtful, displaced))
        elif words[:2] == ["CREATE", "MACRO"]:
            lines.append(module.written(statement))
        else:
            after.append(module.written(statement))
    lines += [*after, *_counters(connection, _serials(connection), serial=True), *_comments(connection)]
    (folder / "schema.cypher").write_text("".join(f"{line};\n" for line in lines), "utf-8")
    _mend_indexes(connection, folder, displaced)
    try:
        module.plan(folder)
    except module.Refused:  # names that the engine does not quote where it writes them
        _mend_copies(connection, folder, displaced)
    else:
        if displaced:
            _mend_copies(connection, folder, displaced)
    return doubtful


def _mend_copies(connection: Any, folder: Path, displaced: Renamed) -> None:
    """Write ``copy.cypher`` again, with files whose names need no quoting."""
    named, lines = _statements().named, list[str]()
    for table, kind in sorted(
        _rows(connection, "CALL SHOW_TABLES() RETURN name, type"), key=lambda row: row[1] != "NODE"
    ):
        names = [column["name"] for column in _columns(connection, table)]
        columns = ",".join(named(displaced.get((table, name), name)) for name in names)
        what = f"{named(table)} ({columns})" if columns else named(table)
        if kind == "NODE":
            lines.append(f'COPY {what} FROM "{_renamed(folder, table, len(lines))}" (parallel=true);\n')
            continue
        for pair in _rows(connection, f"CALL SHOW_CONNECTION({_quoted(table)}) RETURN *") if kind == "REL" else ():
            ends = f"to={_quoted(pair[1])}, from={_quoted(pair[0])}"
            file = _renamed(folder, f"{table}_{pair[0]}_{pair[1]}", len(lines))
            lines.append(f'COPY {what} FROM "{file}" ({ends}, parallel=true);\n')
    (folder / "copy.cypher").write_text("".join(lines), "utf-8")


def _renamed(folder: Path, stem: str, number: int) -> str:
    """The name of a file of the export, which gets another one where the engine would not find it under its own."""
    if _PLAIN.fullmatch(stem):
        return f"{stem}.parquet"
    file = f"table-{number:04d}.parquet"
    (folder / f"{stem}.parquet").rename(folder / file)
    return file


def _with_defaults(connection: Any, statement: Any, doubtful: list[str], displaced: Renamed) -> str:
    """A table's statement with the default of each column, and the direction in which relationships are stored."""
    module = _statements()
    opening = next(at for at, token in enumerate(statement) if token.word == "(")
    table = statement[opening - 1].value
    columns = {column["name"]: column for column in _columns(connection, table)}
    depth, start, parts = 0, opening + 1, []
    for at in range(opening, len(statement)):
        word = statement[at].word
        depth += (word in ("(", "[", "{")) - (word in (")", "]", "}"))
        if (word == "," and depth == 1) or not depth:
            parts.append(statement[start:at])
            start = at + 1
        if not depth:
            break
    texts = []
    for part in parts:
        if statement[1].word == "REL" and part[0].kind == "name" and part[0].value.lower() in ("from", "to"):
            name = part[0].value  # COPY would use it as an end of the relationship: it gets its name afterwards
            displaced[table, name] = next(n for n in (f"{name}{'_' * k}" for k in range(1, 99)) if n not in columns)
            text = module.written([module.Token("name", module.named(displaced[table, name])), *part[1:]])
        else:
            text = module.written(part)
        column = columns.get(part[0].value) if part and part[0].kind == "name" else None
        default = (column or {}).get("default expression", "")
        if column and default not in ("", "NULL"):
            text += f" DEFAULT {default}"
            if _SIGN_LOST.search(_STRING.sub("''", default)):
                doubtful.append(f"the sign of the default {default} of {table}.{column['name']}")
        texts.append(text)
    direction = next((column.get("storage_direction", "both") for column in columns.values()), "both")
    tail = module.written(statement[start:])
    if not tail and direction not in ("", "both"):
        tail = f"WITH (storage_direction={_quoted(direction)})"
    return f"{module.written(statement[: opening + 1])}{', '.join(texts)}) {tail}".rstrip()


def _serials(connection: Any) -> dict[str, str]:
    """The sequences that the engine makes for SERIAL columns: the name that a new table would give it, and its name
    here, which it keeps when the table or the column is renamed. Only certain matches are returned."""
    sequences = {str(one["name"]) for one in _sequences(connection)}
    columns = [
        (table, column["name"])
        for table, kind in _rows(connection, "CALL SHOW_TABLES() RETURN name, type")
        if kind in ("NODE", "REL")
        for column in _columns(connection, table)
        if column["type"] == "SERIAL"
    ]
    found = {f"{table}_{column}_serial": f"{table}_{column}_serial" for table, column in columns}
    found = {name: name for name in found if name in sequences}
    left = [one for one in columns if f"{one[0]}_{one[1]}_serial" not in found]
    orphans = {name for name in sequences - found.keys() if name.endswith("_serial")}
    for table, column in left:
        by_name = [name for name in orphans if name.endswith(f"_{column}_serial") or name.startswith(f"{table}_")]
        fitting = list(orphans) if len(left) == len(orphans) == 1 else by_name
        if len(fitting) == 1:
            found[f"{table}_{column}_serial"] = fitting[0]
            orphans.discard(fitting[0])
    return found


def _counters(connection: Any, serials: dict[str, str], *, serial: bool) -> list[str]:
    """Sequences with their next value; one that was never used is not advanced."""
    found = []
    future = {now: then for then, now in serials.items()}
    for one in _sequences(connection):
        name = future.get(one["name"], one["name"])
        current = _current(connection, one["name"])
        if (name in serials) != serial or (serial and current == _UNASKED):
            continue
        named = _statements().named(name)
        if serial:
            found.append(f"DROP SEQUENCE IF EXISTS {named}")
        start = one["start value"] if current == _UNASKED else current
        found.append(
            f"CREATE SEQUENCE IF NOT EXISTS {named} START {start} INCREMENT {one['increment']} MINVALUE "
            f"{one['min value']} MAXVALUE {one['max value']} {'CYCLE' if one['cycle'] else 'NO CYCLE'}"
        )
        if current != _UNASKED:
            found.append(f"RETURN nextval({_quoted(name)})")
    return found


_UNASKED = "never asked"


def _current(connection: Any, sequence: str) -> str:
    try:
        return str(_rows(connection, f"RETURN currval({_quoted(sequence)})")[0][0])
    except RuntimeError as error:
        if "nextval" not in str(error):
            raise
        return _UNASKED


def _comments(connection: Any) -> list[str]:
    rows = _rows(connection, "CALL SHOW_TABLES() RETURN name, comment")
    return [f"COMMENT ON TABLE {_statements().named(name)} IS {_quoted(text)}" for name, text in rows if text]


def _mend_indexes(connection: Any, folder: Path, displaced: Renamed) -> None:
    """Words of a text index that are in a table refer to the table again; a file has its name in the folder.
    Columns with temporary names get their own names."""
    path = folder / "index.cypher"
    module = _statements()
    tables = {name for (name,) in _rows(connection, "CALL SHOW_TABLES() RETURN name")}
    used = {}
    for index in _indexes(connection):
        if match := re.search(r"stopwords\s*:=\s*'((?:[^'\\]|\\.)*)'", str(index["index_definition"]), re.IGNORECASE):
            used[index["table_name"], index["index_name"]] = match[1]
    lines = []
    for statement in module.statements(path.read_text("utf-8") if path.exists() else ""):
        strings = [token.value for token in statement if token.kind == "string"][:2]
        for at, token in enumerate(statement):
            if token.word == "STOPWORDS" and at + 2 < len(statement):
                words = used.get((strings[0], strings[1]), "")
                file = statement[at + 2].value.rpartition("/")[2]
                statement[at + 2] = module.Token("string", _quoted(words if words in tables else file))
        lines.append(f"{module.written(statement)};\n")
    for (table, name), other in displaced.items():
        lines.append(f"ALTER TABLE {module.named(table)} RENAME {module.named(other)} TO {module.named(name)};\n")
    path.write_text("".join(lines), "utf-8")


def _columns(connection: Any, table: str) -> list[dict[str, Any]]:
    return _named_rows(connection, f"CALL TABLE_INFO({_quoted(table)}) RETURN *")


def _sequences(connection: Any) -> list[dict[str, Any]]:
    found = _named_rows(connection, "CALL SHOW_SEQUENCES() RETURN *")
    return sorted(found, key=lambda one: str(one["name"]))


def _indexes(connection: Any) -> list[dict[str, Any]]:
    try:
        return _named_rows(connection, "CALL SHOW_INDEXES() RETURN *")
    except RuntimeError:  # older engines do not know it
        return []


def _named_rows(connection: Any, question: str) -> list[dict[str, Any]]:
    answer = connection.execute(question)
    names, rows = answer.get_column_names(), []
    while answer.has_next():
        rows.append(dict(zip(names, answer.get_next(), strict=True)))
    return rows


def _rows(connection: Any, question: str) -> list[list[Any]]:
    answer, rows = connection.execute(question), []
    while answer.has_next():
        rows.append(answer.get_next())
    return rows


def _quoted(text: str) -> str:
    quoted: str = _statements().quoted(text)
    return quoted
