"""The codec of all records: JSON out, and its fields read by type; sealed where a backup depends on it.

The last field of a sealed record is ``checksum``: the SHA-256 of every byte before the line that holds it
(``head -n -2 FILE | sha256sum`` gives the same). So every changed bit is found, even one that does not change the
meaning of the JSON.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from scriptorium.errors import DamageFound

SHA256 = re.compile(r"[0-9a-f]{64}\Z")

_TAIL = re.compile(rb'  "checksum": "([0-9a-f]{64})"\n}\n\Z')
_TAIL_LENGTH = len('  "checksum": ""\n}\n') + 64
compact = json.JSONEncoder(ensure_ascii=False, separators=(", ", ": ")).encode
_indented = json.JSONEncoder(ensure_ascii=False, indent=2).encode

T = TypeVar("T")


def readable(text: str) -> str:
    """Text that can be written as UTF-8: other bytes become ``\\xNN``."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _cleaned(value: object) -> object:
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, dict):
        return {readable(key): _cleaned(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    return value


def sealed(fields: Mapping[str, object], *raw: bytes) -> bytes:
    """The fields as an indented object under its seal; ``raw``: further fields, already written."""
    lines = [f"  {compact(key)}: {_indented(_cleaned(value))}".replace("\n", "\n  ") for key, value in fields.items()]
    body = b"{\n" + b",\n".join([",\n".join(lines).encode(), *raw]) + b",\n"
    return body + f'  "checksum": "{hashlib.sha256(body).hexdigest()}"\n}}\n'.encode()


def unsealed(data: bytes, subject: str) -> Record:
    """The object under an unbroken seal. Raises ``DamageFound``."""
    tail = _TAIL.search(data, max(0, len(data) - _TAIL_LENGTH))
    record = Record(parsed(data, subject), subject)
    if tail is None:
        raise damaged(f"the {subject} does not end in its checksum")
    if hashlib.sha256(memoryview(data)[: tail.start()]).hexdigest().encode() != tail.group(1):
        raise damaged(f"the {subject} differs from its checksum")
    return record


def encoded(fields: Mapping[str, object], *, indent: int | None = None, ordered: bool = False) -> bytes:
    """The fields as an object without a seal, in ASCII: names keep the bytes that are not UTF-8. ``ordered``: by their
    names, so that equal fields are equal bytes."""
    return json.dumps(fields, indent=indent, sort_keys=ordered).encode("ascii")


def decoded(data: bytes, subject: str) -> Record:
    """The object in these bytes. Raises ``DamageFound``."""
    return Record(parsed(data, subject), subject)


def parsed(data: bytes, subject: str) -> object:
    """The JSON in these bytes, or ``DamageFound``."""
    try:
        found: object = json.loads(data)
    except (ValueError, RecursionError):
        raise damaged(f"the {subject} is not JSON") from None
    return found


def damaged(what: str) -> DamageFound:
    return DamageFound(what, hint="use another copy of this backup")


def instant(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


class Record:
    """A JSON object whose fields are read by type; what is missing or of another type is damage."""

    def __init__(self, raw: object, subject: str) -> None:
        if not isinstance(raw, dict):
            raise damaged(f"{subject}: not a JSON object")
        self.raw: dict[str, object] = raw
        self.subject = subject

    def wrong(self, field: str) -> DamageFound:
        how = "has a wrong value" if field in self.raw else "is missing"
        return damaged(f"{self.subject}: field '{field}' {how}")

    def text(self, field: str, form: re.Pattern[str] | None = None) -> str:
        value = self.raw.get(field)
        if not isinstance(value, str) or (form is not None and not form.match(value)):
            raise self.wrong(field)
        return value

    def optional_text(self, field: str) -> str | None:
        return None if self.raw.get(field) is None else self.text(field)

    def path(self, field: str) -> str:
        text = self.text(field)
        if f"{field}_base64" not in self.raw:
            return text
        try:
            return base64.b64decode(self.text(f"{field}_base64"), validate=True).decode("utf-8", "surrogateescape")
        except binascii.Error:
            raise self.wrong(f"{field}_base64") from None

    def optional_path(self, field: str) -> str | None:
        return None if self.raw.get(field) is None else self.path(field)

    def number(self, field: str) -> int:
        value = self.raw.get(field)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.wrong(field)
        return value

    def optional_number(self, field: str) -> int | None:
        return None if self.raw.get(field) is None else self.number(field)

    def seconds(self, field: str) -> float:
        value = self.raw.get(field)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.wrong(field)
        return float(value)

    def flag(self, field: str) -> bool:
        value = self.raw.get(field)
        if not isinstance(value, bool):
            raise self.wrong(field)
        return value

    def instant(self, field: str) -> datetime:
        try:
            time = datetime.fromisoformat(self.text(field))
        except ValueError:
            raise self.wrong(field) from None
        if time.tzinfo is None:
            raise self.wrong(field)
        return time.astimezone(UTC)

    def optional_instant(self, field: str) -> datetime | None:
        return None if self.raw.get(field) is None else self.instant(field)

    def optional_seconds(self, field: str) -> float | None:
        return None if self.raw.get(field) is None else self.seconds(field)

    def word(self, field: str, kind: Callable[[str], T]) -> T:
        try:
            return kind(self.text(field))
        except ValueError:
            raise self.wrong(field) from None

    def listed(self, field: str) -> list[object]:
        value = self.raw.get(field)
        if not isinstance(value, list):
            raise self.wrong(field)
        return value

    def texts(self, field: str) -> tuple[str, ...]:
        items = self.listed(field)
        if not all(isinstance(item, str) for item in items):
            raise self.wrong(field)
        return tuple(str(item) for item in items)

    def record(self, field: str) -> Record:
        if not isinstance(self.raw.get(field), dict):
            raise self.wrong(field)
        return Record(self.raw[field], f"{self.subject}: {field}")

    def optional_record(self, field: str) -> Record | None:
        return None if self.raw.get(field) is None else self.record(field)
