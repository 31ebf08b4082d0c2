"""How tasks are retried: only after a transient error, each time after a longer pause."""

from __future__ import annotations

from typing import Any, TypedDict

from prefect import Task
from prefect.cache_policies import NO_CACHE, CachePolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import exponential_backoff

from scriptorium.errors import TransientError

ATTEMPTS = 3
_JITTER = 0.3


def is_transient(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether the error may disappear by itself."""
    return isinstance(state.result(raise_on_failure=False), TransientError)


class TaskOptions(TypedDict):
    """The options that every task has."""

    retries: int
    retry_delay_seconds: Any
    retry_jitter_factor: float
    retry_condition_fn: Any
    cache_policy: CachePolicy
    persist_result: bool


# Prefect must never answer a task from its cache, nor write results to disk.
RETRIED: TaskOptions = {
    "retries": ATTEMPTS - 1,
    "retry_delay_seconds": exponential_backoff(5),
    "retry_jitter_factor": _JITTER,
    "retry_condition_fn": is_transient,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}
ONCE: TaskOptions = {**RETRIED, "retries": 0}
