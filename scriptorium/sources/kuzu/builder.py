"""The child that makes exports and databases: ``python -P …/builder.py '<request as JSON>'``.

The request is one JSON object: ``do`` (``export``: of ``database`` into the new folder ``export``; ``import``: of
``export`` into the new ``database``), ``database``, ``export``, ``engine`` (a folder to import kuzu from, or null),
``pool`` (bytes), ``virtual`` (bytes of address space, where that is limited), ``read_only``. The one answer is a JSON
object: ``{"verdict": "ok", "closed": true, "catalog": …, "doubtful": […]}``, or a verdict ``missing``, ``refused`` (a
statement that no export has) or ``unreadable`` (any other failure) with a ``detail``.

An export is imported by statements that were parsed and written again; its own statements are never run. This module
is run as a file, and imports nothing of the package.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

# Measured: Parquet has 0 for an INT128 that is no double, drops the microseconds of an INTERVAL, and shifts the fields
# of structs and unions after a null one.
_LOSSY = ("INT128", "STRUCT(", "UNION(", "INTERVAL")


def main(argv: list[str]) -> int:
    gc.set_threshold(10_000)  # what is imported stays: the default spends a quarter of its time on looking for cycles
    request = json.loads(argv[1])
    with contextlib.suppress(OSError):  # if memory is short, the kernel must end this process and not the application
        Path("/proc/self/oom_score_adj").write_text("1000")
    sys.modules["pandas"] = None  # type: ignore[assignment]  # kuzu loads it if it is installed, which takes a second
    if request["engine"]:
        sys.path.insert(0, request["engine"])
    try:
        import kuzu
    except ImportError as error:
        return _answer_with({"verdict": "missing", "detail": str(error)})
    _module("schema")
    _module("confinement").confine()
    refused = _module("statements").Refused
    try:
        return _answer_with(
            {"verdict": "ok", "closed": True, **(_export if request["do"] == "export" else _import)(kuzu, request)}
        )
    except refused as error:
        return _answer_with({"verdict": "refused", "detail": str(error)})
    except (RuntimeError, IndexError, ValueError, MemoryError, OverflowError) as error:
        return _answer_with({"verdict": "unreadable", "detail": (f"{error}".strip() or type(error).__name__)[:300]})


def _answer_with(answer: dict[str, Any]) -> int:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    return 0


def _export(kuzu: Any, request: dict[str, Any]) -> dict[str, Any]:
    schema, folder = _module("schema"), Path(request["export"])
    database = _open(kuzu, request)
    connection = kuzu.Connection(database)
    catalog = schema.catalog(connection)
    if lossy := [f"{name[7:]} ({kind})" for name, kind in catalog.items() if _is_lossy(name, kind)]:
        raise RuntimeError(f"Kuzu's Parquet export does not keep {', '.join(lossy)}")
    if outside := [name for (name,) in schema.names(connection) if "/" in name]:
        raise RuntimeError(f"Kuzu makes a path of a name with '/': {', '.join(outside[:3])}")
    connection.execute(f"EXPORT DATABASE {_module('statements').quoted(str(folder))} (format='parquet')")
    doubtful = schema.mend(connection, folder)
    _module("statements").plan(folder)
    connection.close()
    database.close()
    return {"catalog": catalog, "doubtful": doubtful}


def _is_lossy(name: str, kind: str) -> bool:
    return name.startswith("column ") and any(word in kind for word in _LOSSY)


def _import(kuzu: Any, request: dict[str, Any]) -> dict[str, Any]:
    folder = Path(request["export"])
    statements = _module("statements").plan(folder)
    schema = _module("schema")
    os.chdir(folder)  # the statements of the export name its files relative to it
    database = _open(kuzu, request)
    connection = kuzu.Connection(database)
    for statement in statements:
        connection.execute(statement)
    catalog = schema.catalog(connection)
    connection.execute("CHECKPOINT")
    connection.close()
    database.close()
    return {"catalog": catalog, "doubtful": []}


def _open(kuzu: Any, request: dict[str, Any]) -> Any:
    options: dict[str, Any] = {"buffer_pool_size": request["pool"], "max_num_threads": min(4, os.cpu_count() or 1)}
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        options["max_db_size"] = request["virtual"]
    return kuzu.Database(request["database"], read_only=request["read_only"], **options)


def _module(name: str) -> Any:
    """A module in the folder of this file."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


if __name__ == "__main__":
    status = main(sys.argv)
    gc.freeze()  # at its end the interpreter would look for cycles in everything that is left
    sys.exit(status)
