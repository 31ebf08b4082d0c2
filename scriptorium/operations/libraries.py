"""The same operation for one library after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from scriptorium.errors import ScriptoriumError

Made = TypeVar("Made")


def for_each(libraries: Sequence[str], work: Callable[[str], Made]) -> tuple[Made, ...]:
    """Run ``work`` for each library. One that fails does not stop the others; it is an error at the end."""
    done: list[Made] = []
    failed: list[tuple[str, ScriptoriumError]] = []
    for library in libraries:
        try:
            done.append(work(library))
        except ScriptoriumError as error:
            failed.append((library, error))
    if len(libraries) == 1 and failed:
        raise failed[0][1]
    if failed:
        names = "; ".join(f"{library}: {error}" for library, error in failed)
        first = failed[0][1]
        raise type(first)(f"{len(failed)} of {len(libraries)} failed", on=names, hint=first.hint)
    return tuple(done)
