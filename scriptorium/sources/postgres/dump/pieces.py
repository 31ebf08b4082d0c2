"""A dump in pieces: the files of a fixed size into which a stream is cut, and how they become one dump again.

``dump.000001``, ``dump.000002``, …: ``cat dump.*`` is pg_dump's custom format.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from scriptorium.errors import DamageFound, NoSpace, RestoreFailed, ToolFailed
from scriptorium.failpoints import reach

PIECE = 32 << 20  # bytes: held in memory, since tar announces a size before the contents
JOINED = "dump"
_PARTIAL = "dump.partial"
_DIGITS = 6
_NAME = re.compile(rf"dump\.(\d{{{_DIGITS}}})")


def piece_name(number: int) -> str:
    """The name of a piece, counted from 1; in the order of names they are in the order of the dump."""
    if number >= 10**_DIGITS:
        raise ToolFailed("the dump is larger than any that can be cut into pieces", hint="set dump to 'stage'")
    return f"dump.{number:0{_DIGITS}}"


def piece_number(name: str) -> int | None:
    """Which piece has this name, ``None`` where none has."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def join(folder: Path) -> None:
    """Make the pieces in the folder one file, in place: the disk must take one piece more, and not all of them.

    A folder without pieces stays as it is. ``RestoreFailed`` where an earlier joining was cut short; ``DamageFound``
    where a piece is missing; ``NoSpace``.
    """
    partial = folder / _PARTIAL
    if partial.exists():
        raise RestoreFailed("the dump's pieces were joined in part only", on=str(folder), hint="restore once more")
    pieces = sorted(path for path in folder.iterdir() if piece_number(path.name) is not None)
    if not pieces:
        return
    for number, piece in enumerate(pieces, 1):
        if piece.name != piece_name(number):
            raise DamageFound("a piece of the dump is missing", on=piece_name(number), hint="use another copy")
    pieces[0].rename(partial)
    try:
        with partial.open("r+b") as whole:
            whole.seek(0, os.SEEK_END)
            for piece in pieces[1:]:
                _append(whole.fileno(), piece)
                reach("pieces.appended")
                piece.unlink()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise NoSpace("the disk became full while the dump's pieces were joined", on=str(folder)) from error
    partial.rename(folder / JOINED)


def _append(whole: int, piece: Path) -> None:
    with piece.open("rb") as source:
        left = os.fstat(source.fileno()).st_size
        while left and (sent := os.sendfile(whole, source.fileno(), None, left)):  # the kernel copies
            left -= sent
