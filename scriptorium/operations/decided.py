"""A plan that a user has seen and confirmed is the one that is carried out: it is made once.

The command line shows a plan, asks, and then calls the flow with the request, because tasks and flows get names and
records alone. In the block of ``decided`` the operation finds the plan of exactly this request again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

from scriptorium.requests import Request

_FRESH = 300.0  # seconds for which a plan is carried out unchanged; an older one is made again


class Plan(Protocol):
    """What was decided. ``began``: when, by the monotonic clock."""

    @property
    def began(self) -> float: ...


P = TypeVar("P", bound=Plan)
_decided: ContextVar[tuple[Request, Plan] | None] = ContextVar("decided", default=None)


@contextmanager
def decided(request: Request, plan: Plan) -> Iterator[None]:
    """In this block ``plan`` is what is done for ``request``. If the user took long to confirm, it is made again."""
    token = _decided.set((request, plan))
    try:
        yield
    finally:
        _decided.reset(token)


def plan_of(request: Request, kind: type[P]) -> P | None:
    """The plan of this kind that was decided for the request; ``None`` if there is none, or it is too old."""
    request_and_plan = _decided.get()
    if request_and_plan is None or request_and_plan[0] != request:
        return None
    plan = request_and_plan[1]
    return plan if isinstance(plan, kind) and time.monotonic() - plan.began < _FRESH else None
