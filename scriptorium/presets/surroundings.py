"""What an application is told by its ``.env``, read and never run; links on the way to its data."""

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

    ``${NAME}`` stands for one of the file's own names or its default; any other stays as it is written (``open_in``),
    because the environment of the application is not known here. Bytes that are not UTF-8 hide no other
    line. Empty where there is no such file.
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
    """Whether a value names something that is not known here."""
    return "${" in text


def text_of(path: Path) -> str:
    """What a file says, without a byte order mark; empty where it is not there or cannot be read."""
    try:
        return read_file(path)[0].decode("utf-8", "surrogateescape").removeprefix(_MARK)
    except OSError:
        return ""


def unreadable(path: Path) -> str:
    """Why a file that is there cannot be read; empty for one that can be, or that no application reads either."""
    try:
        read_file(path, 1)
    except PermissionError as error:
        return error.strerror or str(error)
    except OSError:
        pass
    return ""


def links_between(folder: Path, below: Path) -> Iterator[str]:
    """Of the folders from ``folder`` down to ``below``, those that are symbolic links, relative to ``folder``."""
    if not below.is_relative_to(folder):
        return
    for step in (below, *below.parents):
        if step == folder:
            return
        if step.is_symlink():
            yield step.relative_to(folder).as_posix()
