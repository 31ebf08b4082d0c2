"""Tables on a terminal: what does not fit is left out, and an id is never broken in two."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
PROGRAM = """
from scriptorium.cli.output import table
row = {"ID": "3f2a01bc99de", "Name": "full_20261122_055219", "Library": "bibliotheca", "Tier": "before-restore",
       "Age": "12 minutes ago", "Size": "959.7 KiB", "Status": "verified"}
table([row, row], right=("Size",), spare=("Library", "Tier"))
"""


def shown(width: int) -> list[str]:
    """The lines of the table on a terminal of that width."""
    ours, theirs = pty.openpty()
    try:
        environment = {**os.environ, "COLUMNS": str(width), "TERM": "xterm"}
        subprocess.run([sys.executable, "-c", PROGRAM], stdout=theirs, env=environment, check=True, timeout=60)
        return _COLOUR.sub("", os.read(ours, 1 << 16).decode()).splitlines()
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize(
    ("width", "there", "gone"),
    [
        (108, ("3f2a01bc99de", "bibliotheca", "before-restore", "verified"), ()),
        (107, ("3f2a01bc99de", "before-restore", "verified"), ("bibliotheca",)),
        (80, ("3f2a01bc99de", "full_20261122_055219", "12 minutes ago", "verified"), ("bibliotheca", "Tier")),
        (50, ("3f2a01bc99de",), ("bibliotheca", "Tier")),
    ],
)
def test_a_narrow_terminal_goes_without_some_columns(width: int, there: tuple[str, ...], gone: tuple[str, ...]) -> None:
    lines = shown(width)
    message = "\n".join(lines)
    assert all(word in message for word in there), message
    assert not any(word in message for word in gone), message
    assert all(len(line) <= width for line in lines)
