"""Start flow runs from the command line: Prefect's log level, and progress bars on standard error."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TypeVar, cast

from scriptorium.cli.output import manner, warn
from scriptorium.errors import ScriptoriumError, ToolMissing, UsageError
from scriptorium.logs import OURS
from scriptorium.progress import Advance, Step, watched_by
from scriptorium.server.run_history import noted
from scriptorium.wording import legible

R = TypeVar("R")

# Prefect sends no usage statistics.
_PREFECT = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLI_PROMPT": "false",
    "DO_NOT_TRACK": "1",
    # Each call to an API that is gone is retried after 2, 4, 8 ... seconds: with Prefect's default of five retries, a
    # command whose work is done would hang for minutes. A server that is being restarted is back within two.
    "PREFECT_CLIENT_MAX_RETRIES": "2",
}
# On a busy machine they warn at the end of each run that events are still to be sent; we wait for them ourselves.
_SENDERS = ("EventsWorker", "APILogWorker")


@contextlib.contextmanager
def flow_runs() -> Iterator[None]:
    """Load Prefect (with its embedded server, if no other one is set) and run flows in the block."""
    level = "INFO" if manner.verbose else "CRITICAL"
    from scriptorium.settings import set_defaults

    set_defaults({**_PREFECT, "PREFECT_LOGGING_LEVEL": level})
    for name in _SENDERS:
        logging.getLogger(name).setLevel(level)
    logging.getLogger(OURS).propagate = False  # else Prefect's console shows our lines, with --verbose twice
    logging.raiseExceptions = manner.verbose  # the traceback of a log that cannot be sent does not help a user
    with _interruptible(), contextlib.ExitStack() as running:
        with _spinner("starting") if _shows_progress() else contextlib.nullcontext():
            from scriptorium.server.prefect_api import api

            embedded = running.enter_context(api())
        if _shows_progress():
            running.enter_context(watched_by(_bar))
        try:
            yield
        except Exception:
            _remember(embedded, 15.0)
            raise
        except BaseException:
            _remember(embedded, 2.0)  # interrupted: a user waits at the keyboard
            raise
        _remember(embedded, 15.0)


def _remember(embedded: bool, seconds: float) -> None:
    """Wait until the runs are in Prefect's history, also the failed ones. A failure here never fails the command."""
    from scriptorium.server.run_history import written_down

    try:
        whole = not embedded or written_down(seconds)
    except Exception:  # noqa: BLE001  a server that is gone was reported where it mattered
        return
    if not whole:
        warn("Prefect's embedded server was too slow: the history may show tasks of this run as still running")


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """End a run in an orderly way on Ctrl-C and SIGTERM, so that it cleans up. A later error is taken as a consequence
    of the signal. (While a flow runs, Prefect handles SIGTERM, ends the run and passes the signal on to us.)
    """
    pressed: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        signal.default_int_handler(number, frame)

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except Exception as error:
        if pressed:
            raise KeyboardInterrupt from error
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def carried_out(flow: Callable[..., R], *args: object, **given: object) -> R:
    """Call a flow with the parameters of a request.

    Prefect 3.8 raises if the API is gone at the end of a run, even if the work of the run is done. Then the result is
    returned with a warning.
    """
    for value in given.values():
        _require_utf8(value)
    done: list[R] = []
    noting = copy.copy(flow)
    body: Callable[..., R] = flow.fn  # type: ignore[attr-defined]

    @functools.wraps(body)
    def body_noted(*inner: object, **named: object) -> R:
        with noted():
            done.append(body(*inner, **named))
        return done[-1]

    # Prefect looks up the types of the parameters in the module that defines the function, which is this one
    body_noted.__signature__ = inspect.signature(body, eval_str=True)  # type: ignore[attr-defined]
    noting.fn = body_noted  # type: ignore[attr-defined]
    try:
        return noting(*args, **given)
    except ScriptoriumError:
        raise
    except Exception as error:
        if not done:
            _require_api(error)
            raise
        warn(f"it is done, but it could not be reported to Prefect ({type(error).__name__}): its API is gone")
        return _plain(done[-1])


def _plain(made: R) -> R:
    """The data that the flow returned, also if it returned it inside a state."""
    from prefect.client.schemas.objects import State

    return cast(R, made.data) if isinstance(made, State) else made


def _require_utf8(value: object) -> None:
    """``UsageError`` for a word that is not UTF-8: Prefect stores the parameters of a run, and cannot store it."""
    for word in value if isinstance(value, list | tuple) else [value]:
        if isinstance(word, str) and not word.isascii() and any("\ud800" <= letter <= "\udfff" for letter in word):
            raise UsageError(
                "this is not UTF-8",
                on=word,
                hint="use another name; in a pattern, ? matches a byte that is not UTF-8",
            )


def _require_api(error: Exception) -> None:
    """``ToolMissing`` if the error means that Prefect's API does not answer, refuses us, or fails itself."""
    silent = isinstance(error, RuntimeError) and "reach API" in str(error)
    status = getattr(getattr(error, "response", None), "status_code", None) or 0
    refused, failing = status in (401, 403), status >= 500
    if not silent and not refused and not failing:
        return
    from prefect.settings import PREFECT_API_URL

    what, hint = (
        "Prefect's API does not answer",
        "start it (prefect server start), or unset PREFECT_API_URL to run without a server",
    )
    if refused:
        what = "Prefect's API asks for another password"
        hint = "set PREFECT_API_AUTH_STRING to the server's PREFECT_SERVER_API_AUTH_STRING"
    if failing:
        what = f"Prefect's API answers with an error of its own ({status})"
        hint = "look at the server's log and try again, or unset PREFECT_API_URL to run without a server"
    raise ToolMissing(what, on=str(PREFECT_API_URL.value()), hint=hint) from error


def _shows_progress() -> bool:
    return sys.stderr.isatty() and not manner.quiet and not manner.json


@contextlib.contextmanager
def _spinner(what: str) -> Iterator[None]:
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


@contextlib.contextmanager
def _bar(step: Step) -> Iterator[Advance]:
    """A progress bar: bytes done, speed, and, if the size is known, the percentage and the remaining time."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        ProgressColumn,
        SpinnerColumn,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns: list[ProgressColumn] = [SpinnerColumn(), TextColumn("{task.description}", markup=False)]
    columns += [BarColumn(bar_width=20), TaskProgressColumn()] if step.expected else []
    columns += [DownloadColumn(binary_units=True), TransferSpeedColumn()]
    columns += [TimeRemainingColumn()] if step.expected else [TimeElapsedColumn()]
    done = 0
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(legible(str(step)), total=step.expected or None)

        def advance(count: int) -> None:
            nonlocal done
            done += count
            total = max(done, step.expected) if step.expected else None  # an estimate may be too low
            bar.update(task, completed=done, total=total)

        yield advance
