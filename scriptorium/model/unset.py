"""What could not be restored of a file besides its contents, counted: one record for each kind and reason."""

from __future__ import annotations

from dataclasses import dataclass

NAMES = 3


@dataclass(frozen=True, slots=True)
class Unset:
    """``what``: a property that could not be set, or a kind of entry that could not be made; ``reason``: why, in the
    system's words. ``count``: of how many entries; ``names``: the first of them, as people read them."""

    what: str
    reason: str
    count: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        if self.count == 1:
            return f"{self.names[0]}: {self.what} ({self.reason})"
        more = ", …" if self.count > len(self.names) else ""
        return f"{self.what} ({self.reason}), {self.count:,} entries: {', '.join(self.names)}{more}"


class UnsetTally:
    """Counts what could not be set; its size does not grow with the number of entries."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], tuple[int, tuple[str, ...]]] = {}

    def add(self, what: str, reason: str, name: str) -> None:
        count, names = self._found.get((what, reason), (0, ()))
        self._found[what, reason] = (count + 1, names if len(names) >= NAMES else (*names, name))

    def result(self) -> tuple[Unset, ...]:
        """One record for each kind and reason, in the order in which they came up."""
        return tuple(Unset(what, reason, count, names) for (what, reason), (count, names) in self._found.items())
