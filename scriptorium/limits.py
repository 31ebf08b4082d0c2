"""What a number or a word of the settings may be at most: beyond these it is a slip of the pen, and what works with it
would fail later, or never end."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

MOST = 1_000_000_000
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
SOURCE_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"
PATTERN = r"^[^\x00]*[^/\x00][^\x00]*$"
WORD = r"^[^\x00]*$"
LONGEST_PATTERN = 4096  # letters: no path is longer


def _number(given: object) -> object:
    """``true`` would count as 1."""
    if isinstance(given, bool):
        raise ValueError("a number, not true or false")
    return given


NoTruth = BeforeValidator(_number)
Seconds = Annotated[float, NoTruth, Field(gt=0, le=31 * 86400, allow_inf_nan=False)]
SecondsOrNever = Annotated[float, NoTruth, Field(ge=0, le=31 * 86400, allow_inf_nan=False)]  # 0: without a limit
Days = Annotated[float, NoTruth, Field(ge=0, le=36_500, allow_inf_nan=False)]
Pattern = Annotated[str, Field(max_length=LONGEST_PATTERN, pattern=PATTERN)]  # what is empty matches nothing
Name = Annotated[str, Field(pattern=NAME, max_length=100)]
SourceName = Annotated[str, Field(pattern=SOURCE_NAME, max_length=100)]
Word = Annotated[str, Field(min_length=1, pattern=WORD)]  # of a command
