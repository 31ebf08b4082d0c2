"""Numbers, times and names as people read them.

Names are data: of files, tables, databases, backups, hosts, and in messages of servers and programs. Whoever can name a
file can write into its name a sequence that moves a terminal's cursor, a line that looks like one of ours, or a link
for a report. Names are made harmless here and nowhere else: ``legible`` for terminals and logs, ``markdown`` for
reports. Only the few places that write for people call them (the console, the log, the reports, ``str`` of an error);
no command has to. JSON keeps every name unchanged.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Nothing is drawn for these either, although they count as letters or marks (Unicode: Default_Ignorable_Code_Point).
_IGNORED = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff]"
)
_ANNOTATIONS = re.compile(r"[\\`*\[\]~|@]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.", re.IGNORECASE)
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def legible(text: str) -> str:
    """The text on one line, without control sequences for terminals and without invisible characters.

    Control and format characters (line breaks, escape sequences, writing directions, zero widths) stand as ``\\n``,
    ``\\x1b``, ``\\u202e``, bytes that are not UTF-8 as ``\\xNN``. What is legible stays as it is.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(letter if _is_seen(letter) else _written_out(letter) for letter in text)


def legible_lines(text: str) -> str:
    """The same line by line, for what has lines of its own: a traceback."""
    return "\n".join(map(legible, text.split("\n")))


def _is_seen(letter: str) -> bool:
    return unicodedata.category(letter) not in _UNSEEN and not _IGNORED.match(letter)


def _written_out(letter: str) -> str:
    number = ord(letter)
    if letter in _SHORT:
        return _SHORT[letter]
    if 0xDC80 <= number <= 0xDCFF:  # a byte of a name that is not UTF-8
        return f"\\x{number - 0xDC00:02x}"
    return f"\\x{number:02x}" if number < 0x80 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def markdown(text: str) -> str:
    """The text as Markdown that shows it letter by letter: no link, picture, HTML, emphasis, end of a cell."""
    return _ANNOTATIONS.sub(r"\\\g<0>", legible(text)).translate(_ENTITIES)


def size(count: int) -> str:
    """``1536`` -> ``1.5 KiB``."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < (1024 if unit == "B" else 1023.95):  # what would round to 1024.0 is shown in the next unit
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def duration(seconds: float) -> str:
    """``75.2`` -> ``1 min 15 s``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def progress(what: str, done: int, expected: int | None, seconds: float, *, over: bool = False) -> str:
    """How far something is: ``packing x: 1.0 GiB of 4.0 GiB (25%), 3 min 00 s left``."""
    if over or not done:
        return f"{what}: done" if over else what
    if not expected:
        return f"{what}: {size(done)}"
    text = f"{what}: {size(done)} of {size(max(done, expected))} ({min(100, done * 100 // expected)}%)"
    return f"{text}, {duration((expected - done) * seconds / done)} left" if done < expected and seconds > 0 else text


def utc(time: datetime) -> str:
    """A time in UTC, to the second."""
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def age(time: datetime, now: datetime) -> str:
    """How long ago, in the largest unit that says something."""
    seconds = (now - time).total_seconds()
    if seconds < 0:
        return "in the future"
    for length, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        count = int(seconds // length)
        if count:
            return f"{count} {unit}{'s' if count != 1 else ''} ago"
    return "just now"


def verdict(word: str) -> str:
    """A drill's verdict, for a quick look."""
    return {"not proven": "NOT proven", "not comparable": "restored, and not proven: not all can be compared"}.get(
        word, word
    )
