"""The ``.env`` of an application, which is read and never run; links in the path to its data."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from dotenv.parser import parse_stream

from scriptorium.fs.descriptors import read_file

_MARK = "\ufeff"  # of byte order; some editors write one
_REFERENCE = re.compile(r"\$\{(?P<name>[^}:]*)(?::-(?P<default>[^}]*))?\}")


def env_file(path: Path) -> dict[str, str]:
    """The variables of a ``.env``, as python-dotenv reads them: ``export``, quotes, comments, values of several lines.

    ``${NAME}`` is replaced by a value of the same file or by its default; any other stays (see ``open_in``), because
    the environment of the application is not known here. Bytes that are not UTF-8 do not affect other lines. Empty if
    there is no such file.
    """
    found: dict[str, str] = {}
    for one in parse_stream(io.StringIO(text_of(path), newline=None)):
        if not one.error and one.key is not None and one.key.isascii() and one.value is not None:
            found[one.key] = _filled(one.value, found)
    return found


def _filled(text: str, known: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        return known.get(match["name"], match[0] if match["default"] is None else match["default"])

    return _REFERENCE.sub(value, text)


def open_in(text: str) -> bool:
    """Whether a value contains a variable whose value is not known here."""
    return "${" in text


def text_of(path: Path) -> str:
    """The text of a file, without a byte order mark; empty if it is missing or cannot be read."""
    try:
        return read_file(path)[0].decode("utf-8", "surrogateescape").removeprefix(_MARK)
    except OSError:
        return ""


def unreadable(path: Path) -> str:
    """Why we may not read an existing file; empty if it can be read, or if no application could read it."""
    try:
        read_file(path, 1)
    except PermissionError as error:
        return error.strerror or str(error)
    except OSError:
        pass
    return ""


def links_between(folder: Path, below: Path) -> Iterator[str]:
    """The symbolic links among the folders from ``folder`` down to ``below``, relative to ``folder``."""
    if not below.is_relative_to(folder):
        return
    for step in (below, *below.parents):
        if step == folder:
            return
        if step.is_symlink():
            yield step.relative_to(folder).as_posix()
