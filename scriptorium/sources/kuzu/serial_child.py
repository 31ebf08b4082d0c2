"""The child that writes one of Kuzu's Parquet files again: ``python -P …/kuzu_serial.py FROM TO``.

Kuzu marks SERIAL columns with a type that no other program knows; written again, they are plain integers. It is run as
a file, because a damaged file may crash the process that reads it.
"""

from __future__ import annotations

import sys


def main(old: str, new: str) -> None:
    import kuzu

    connection = kuzu.Connection(kuzu.Database(":memory:", buffer_pool_size=256 << 20))
    look = connection.execute(f"LOAD FROM '{_quoted(old)}' RETURN * LIMIT 0")
    assert isinstance(look, kuzu.QueryResult)
    columns = [
        f"CAST({_name(name)} AS INT64) AS {_name(name)}" if kind == "SERIAL" else _name(name)
        for name, kind in zip(look.get_column_names(), look.get_column_data_types(), strict=True)
    ]
    connection.execute(f"COPY (LOAD FROM '{_quoted(old)}' RETURN {', '.join(columns)}) TO '{_quoted(new)}'")


def _name(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


if __name__ == "__main__":
    main(*sys.argv[1:3])
