"""The context in which every operation of this process runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from scriptorium.process import no_child_outlives
from scriptorium.umask import private_files


@contextlib.contextmanager
def contained() -> Iterator[None]:
    """An error in the block ends every child that was started in it, and only our user may open what is made in it.
    Operations may be nested: a restore takes a backup first."""
    with no_child_outlives(), private_files():
        yield
