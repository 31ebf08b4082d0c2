"""What surrounds the work of every operation in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from scriptorium.process import no_child_outlives
from scriptorium.umask import private_files


@contextlib.contextmanager
def contained() -> Iterator[None]:
    """No child that is started in the block outlives an error in it, and what is made in it is open to our user
    alone. Operations may be nested: a restore takes a backup first."""
    with no_child_outlives(), private_files():
        yield
