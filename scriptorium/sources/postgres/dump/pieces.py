"""A dump in pieces: a stream is cut into files of a fixed size, and these are joined to one dump again.

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
    """The name of a piece, counted from 1. Sorted by name, the pieces are in the order of the dump."""
    if number >= 10**_DIGITS:
        raise ToolFailed("the dump is too large to be cut into pieces", hint="set dump to 'stage'")
    return f"dump.{number:0{_DIGITS}}"


def piece_number(name: str) -> int | None:
    """The number of the piece with this name; ``None`` if it is not the name of a piece."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def join(folder: Path) -> None:
    """Join the pieces in the folder to one file, in place: the disk needs space for one more piece, not for all.

    A folder without pieces is not changed. ``RestoreFailed`` if an earlier joining was interrupted; ``DamageFound`` if
    a piece is missing; ``NoSpace``.
    """
    partial = folder / _PARTIAL
    if partial.exists():
        raise RestoreFailed("only some of the dump's pieces were joined", on=str(folder), hint="restore once more")
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
