"""The child that opens a Kuzu database: each attempt gives it more memory; how it ended decides what is reported.

There are two failures. ``Unreadable``: the engine had what it needs and refused, or crashed. ``Unread``: the database
could not be examined, because of too little memory, time, rights or space, or because the child was ended; this proves
nothing about the database.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from scriptorium import process, wording
from scriptorium.errors import ToolMissing, ToolStalled
from scriptorium.sources.kuzu import memory

log = logging.getLogger(__name__)

SECONDS_AT_LEAST = 120.0
_PAUSE = 1.0  # seconds before the second attempt of a reader that was killed
_SLOWEST = 2 << 20  # bytes a second; a reader slower than this hangs
_SCARCE = re.compile(
    r"buffer pool|buffer manager exception|unable to allocate|cannot allocate|bad_alloc|memoryerror|out of memory"
    r"|mmap for size|failed to map segment|malloc of size|realloc of size|resource temporarily unavailable"
    r"|can't start new thread|mmap failed",
    re.IGNORECASE,
)
_HINDERED = re.compile(
    r"permission denied|operation not permitted|too many open files|no space left|disk quota|read-only file system"
    r"|input/output error|could not set lock",
    re.IGNORECASE,
)
_FOREIGN = re.compile(r"failed to load library:? *(\S*)|the extension (\S+) is neither", re.IGNORECASE)
_ABSURD = "bad_alloc"
_READ_ONLY = "read-only mode"  # in the engine's message if it has to write
_CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP, signal.SIGSYS}
# Numeric libraries reserve memory for each thread; the database would lack it.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

Answers = list[dict[str, Any]]
Opened = Callable[[], AbstractContextManager[Path]]


class Unreadable(Exception):
    """The database cannot be opened, or not be read completely; the message says how this was seen. ``needs_writing``:
    the engine refused because it has to write to the database."""

    def __init__(self, message: str, *, needs_writing: bool = False) -> None:
        super().__init__(message)
        self.needs_writing = needs_writing


class Unread(Exception):
    """The database could not be examined; the message says what was missing. It may be sound."""


class _Scarce(Exception):
    """There was too little memory; more may be enough."""


class _Killed(Exception):
    """SIGKILL ended it: by the kernel, because memory was short, or by somebody. A larger pool would not help."""


def ask(
    request: Mapping[str, object], opened: Opened, *, bytes: int, share: float, program: str = "reader_child.py"
) -> Answers:
    """The answers of the child to a request. Each attempt gets a larger buffer pool and the path that ``opened`` gives.

    If no larger pool is left, answers that are incomplete because of too little memory are returned. A ``version`` that
    does not fit is an answer. Raises ``Unreadable``, ``Unread``, ``ToolMissing`` for a missing engine.
    """
    pools = memory.pools(share)
    seconds = SECONDS_AT_LEAST + bytes / _SLOWEST
    at, killed = 0, False
    while True:
        pool, last = pools[at], at == len(pools) - 1
        try:
            with opened() as database:
                wish = {**request, "database": str(database), "pool": pool, "virtual": _virtual(bytes)}
                answers = _run(program, wish, seconds=seconds)
            if last or not any(map(scarce, _lacking(answers))):
                return answers
        except _Killed:
            if killed:
                raise Unread(_killed(pool)) from None
            killed = True
            log.warning("the reader was ended by SIGKILL with a pool of %s; it is tried once more", wording.size(pool))
            time.sleep(_PAUSE)  # the machine may have been short of memory for a short time
            continue
        except _Scarce as scarcity:
            if last:
                raise Unread(_needed(pool, share, scarcity.args[0])) from None
            log.info("a pool of %s is too little (%s)", wording.size(pool), scarcity.args[0])
        at += 1


def _lacking(answers: Answers) -> Iterator[str]:
    """Why tables have no fingerprints, and statements no answer."""
    yield from answers[0].get("missing", {}).values()
    yield from (answer["trouble"] for answer in answers if "trouble" in answer)


def scarce(detail: str) -> bool:
    """Whether an error of the engine or of a library says that there was too little memory."""
    return _SCARCE.search(detail) is not None


def needed(share: float) -> str:
    """The message for a table that could not be read with all the memory that is allowed."""
    return _needed(memory.pools(share)[-1], share, "")


def _needed(pool: int, share: float, how: str) -> str:
    allowed = wording.size(memory.allowed())
    if _ABSURD in how and not memory.limited():  # without a limit only requests for more than exists are refused
        return (
            f"it asked for more memory than there is ({how}; {wording.size(pool)} of {allowed} were its pool): "
            "too little memory, or a damaged database"
        )
    return (
        f"too little memory to read it{f' ({how})' if how else ''}: it was given {wording.size(pool)} at last, of the "
        f"{allowed} that this process may use; a drill needs more than that (memory_share is {share:g})"
    )


def _killed(pool: int) -> str:
    allowed = wording.size(memory.allowed())
    return (
        f"the kernel ended the reader twice (SIGKILL), with a pool of {wording.size(pool)} of the {allowed} that it "
        "may use: memory was short, or somebody ended it; a drill can be tried again"
    )


def _virtual(bytes: int) -> int:
    """How much address space Kuzu reserves for the database if the address space is limited; by default 8 TB."""
    return 1 << max(64 << 20, 4 * bytes).bit_length()


def _run(program: str, request: Mapping[str, object], *, seconds: float) -> Answers:
    argv = [sys.executable, "-P", str(Path(__file__).with_name(program)), json.dumps(request)]
    try:
        outcome = process.run(argv, env=_ONE_THREAD, timeout=seconds, check=False)
    except ToolStalled:
        raise Unread(f"reading it did not end within {seconds:.0f} s") from None
    except OSError as error:
        if error.errno in (errno.ENOMEM, errno.EAGAIN):
            raise _Scarce("no process could be started") from None
        raise
    answers: Answers = []
    for line in outcome.stdout.splitlines():
        with contextlib.suppress(ValueError):
            answers.append(json.loads(line))
    if not answers or "verdict" not in answers[0]:
        return _ended(outcome)
    answers = _judged(answers, request)
    if answers[0]["verdict"] == "ok" and not answers[-1].get("closed"):
        return _ended(outcome)  # before its last answer: it was killed, or it crashed
    return answers


def _judged(answers: Answers, request: Mapping[str, object]) -> Answers:
    newest = next(answer for answer in reversed(answers) if "verdict" in answer)
    verdict, detail = newest["verdict"], str(newest.get("detail", ""))
    if verdict == "unreadable" and (foreign := _FOREIGN.search(detail)):
        named = (foreign[1] or foreign[2]).rstrip(".")
        raise Unread(f"its write-ahead log loads an extension ({named}), which is a program: none is loaded to read it")
    if verdict in ("missing", "unreadable") and scarce(detail):
        raise _Scarce(detail[:160])
    if verdict == "missing":
        raise ToolMissing(
            "the kuzu package is missing", on=str(request["engine"] or sys.prefix), hint="pip install kuzu"
        )
    if verdict == "unreadable":
        raise Unread(detail) if _HINDERED.search(detail) else Unreadable(detail, needs_writing=_READ_ONLY in detail)
    return answers


def _ended(outcome: process.Outcome) -> Answers:
    """The error for a child that ended without a verdict."""
    words = outcome.stderr.splitlines()
    last_line = words[-1][:200] if words else ""
    if outcome.status == -signal.SIGKILL:
        raise _Killed
    if scarce(outcome.stderr):
        raise _Scarce(last_line)
    if outcome.status >= 0:
        raise Unread(f"the reader failed: {last_line or f'status {outcome.status}'}")
    how = signal.Signals(-outcome.status)
    if how in _CRASHES and memory.limited():  # where memory is refused, the engine also crashes when it lacks memory
        raise _Scarce(f"it crashes the reader ({how.name}), whose address space is limited")
    if how in _CRASHES:
        raise Unreadable(f"it crashes the reader ({how.name})")
    raise Unread(f"the reader was ended by {how.name}")
