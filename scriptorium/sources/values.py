"""Values of Arrow columns as CSV and JSON have them.

JSON has text for values without a JSON form: times (``2024-02-29 12:00:00.123456``), bytes (``\\x00ff``, as PostgreSQL
writes them), NaN and infinities. CSV has the same, and lists and maps as JSON.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


def for_csv(column: pa.Array[Any]) -> pa.Array[Any]:
    """The column as one that the CSV writer knows: numbers, booleans and text as they are, the rest as text."""
    import pyarrow as pa
    import pyarrow.types as of

    kind = column.type
    if of.is_integer(kind) or of.is_floating(kind) or of.is_boolean(kind) or of.is_string(kind):
        return column
    texts = [None if value is None else _text(value) for value in for_json(column)]
    return pa.array(texts, pa.string())


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def for_json(column: pa.Array[Any]) -> list[object]:
    """The column's values as JSON has them."""
    import pyarrow as pa
    import pyarrow.types as of

    kind = column.type
    if of.is_temporal(kind):
        return list(column.cast(pa.string()).to_pylist())
    values: list[object] = list(column.to_pylist())
    if of.is_integer(kind) or of.is_boolean(kind) or of.is_string(kind):
        return values
    return [_plain(value, kind) for value in values]


def _plain(value: Any, kind: Any) -> object:
    import pyarrow.types as of

    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]
    if of.is_map(kind):
        return {str(_plain(key, kind.key_type)): _plain(item, kind.item_type) for key, item in value}
    if of.is_struct(kind):
        return {field.name: _plain(value[field.name], field.type) for field in kind}
    if isinstance(value, list):
        return [_plain(item, kind.value_type) for item in value]
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    return str(value)  # a UUID, a decimal, a time in a list
