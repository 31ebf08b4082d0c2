"""A command for several libraries: one that fails ends none of the others. Each failure is printed, and the worst one
decides the exit code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass

import typer

from scriptorium.cli.output import complain, failure_of

# The exit codes, the worst first: damage, failures, what an administrator must mend, what passes, degraded.
_WORST = (3, 1, 7, 6, 5, 2, 4, 8, 0)


@dataclass(frozen=True, slots=True)
class Failure:
    """What failed, the hint, and the exit code that it would have alone."""

    what: str
    hint: str
    code: int


@contextlib.contextmanager
def keeping_failures(library: str, failed: MutableMapping[str, Failure]) -> Iterator[None]:
    """An error of the block is printed and kept, and the next library follows. An interruption ends everything."""
    try:
        yield
    except (typer.Exit, typer.Abort, BrokenPipeError):
        raise
    except Exception as error:  # noqa: BLE001  whatever it is, it is no reason to leave the other libraries without
        failed[library] = Failure(*failure_of(error))
        complain(f"{library}: {failed[library].what}", failed[library].hint, error, document=False)


@contextlib.contextmanager
def without_keeping(library: str, failed: MutableMapping[str, Failure]) -> Iterator[None]:
    """For a single library: its error is the command's."""
    yield


def worst(codes: Iterable[int]) -> int:
    """The exit code of a command with these outcomes."""
    return min(codes, key=_WORST.index, default=0)
