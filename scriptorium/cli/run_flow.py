"""Starting flow runs from the command line: how loud Prefect is, and progress bars on standard error."""

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

# Nobody is told of what is done here.
_PREFECT = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLI_PROMPT": "false",
    "DO_NOT_TRACK": "1",
    # Each call to an API that is gone is tried again for 2, 4, 8 ... seconds: with Prefect's own five tries, a command
    # whose work is done would hang for minutes. A server that is being restarted is back within these.
    "PREFECT_CLIENT_MAX_RETRIES": "2",
}
# They warn that they have yet to send something, on a busy machine at the end of each run; we wait for them ourselves.
_SENDERS = ("EventsWorker", "APILogWorker")


@contextlib.contextmanager
def flow_runs() -> Iterator[None]:
    """Load Prefect (with its embedded server where no other is set) and run flows in the block."""
    level = "INFO" if manner.verbose else "CRITICAL"
    from scriptorium.settings import set_defaults

    set_defaults({**_PREFECT, "PREFECT_LOGGING_LEVEL": level})
    for name in _SENDERS:
        logging.getLogger(name).setLevel(level)
    logging.getLogger(OURS).propagate = False  # Prefect's console would show our lines, with --verbose a second time
    logging.raiseExceptions = manner.verbose  # a log that cannot be sent: its traceback says nothing to a user
    with _interruptible(), contextlib.ExitStack() as running:
        with _spinner("starting") if _lively() else contextlib.nullcontext():
            from scriptorium.server.prefect_api import api

            embedded = running.enter_context(api())
        if _lively():
            running.enter_context(watched_by(_bar))
        try:
            yield
        except Exception:
            _remember(embedded, 15.0)
            raise
        except BaseException:
            _remember(embedded, 2.0)  # somebody waits at the keyboard
            raise
        _remember(embedded, 15.0)


def _remember(embedded: bool, seconds: float) -> None:
    """The runs must be in the history, also the failed ones; but that costs no command its outcome."""
    from scriptorium.server.run_history import written_down

    try:
        whole = not embedded or written_down(seconds)
    except Exception:  # noqa: BLE001  a server that is gone was complained of where it mattered
        return
    if not whole:
        warn("Prefect's embedded server was too slow: the history may show tasks of this run as still running")


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM end a run in order, so that what it had begun is put away; whatever fails after that failed
    because of it. (While a flow runs, Prefect takes SIGTERM, ends the run and hands the signal on to us.)
    """
    pressed: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        signal.default_int_handler(number, frame)

    former = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except Exception as error:
        if pressed:
            raise KeyboardInterrupt from error
        raise
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def carried_out(flow: Callable[..., R], *args: object, **given: object) -> R:
    """Call a flow with the parameters of a request.

    Where its work was done and only its report to Prefect failed after that, the work counts.

    Prefect 3.8 raises when the API is gone at the end of a run, whatever the run has done by then.
    """
    for said in given.values():
        _require_utf8(said)
    done: list[R] = []
    noting = copy.copy(flow)
    body: Callable[..., R] = flow.fn  # type: ignore[attr-defined]

    @functools.wraps(body)
    def body_noted(*inner: object, **named: object) -> R:
        with noted():
            done.append(body(*inner, **named))
        return done[-1]

    # Prefect looks the parameters' types up where the function was defined, which is here
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
    """What a body returned, where it named the state of its run itself."""
    from prefect.client.schemas.objects import State

    return cast(R, made.data) if isinstance(made, State) else made


def _require_utf8(said: object) -> None:
    """``UsageError`` for a word that is not UTF-8: Prefect keeps what a run was told, and could not write it down."""
    for word in said if isinstance(said, list | tuple) else [said]:
        if isinstance(word, str) and not word.isascii() and any("\ud800" <= letter <= "\udfff" for letter in word):
            raise UsageError(
                "this is not UTF-8",
                on=word,
                hint="use another name; in a pattern, ? stands for a letter that is not UTF-8",
            )


def _require_api(error: Exception) -> None:
    """``ToolMissing`` where the error is what Prefect says when nobody answers at its API, or not to us."""
    silent = isinstance(error, RuntimeError) and "reach API" in str(error)
    status = getattr(getattr(error, "response", None), "status_code", None) or 0
    refused, failing = status in (401, 403), status >= 500
    if not silent and not refused and not failing:
        return
    from prefect.settings import PREFECT_API_URL

    what, hint = (
        "Prefect's API does not answer",
        "start it (prefect server start), or unset PREFECT_API_URL to do without",
    )
    if refused:
        what = "Prefect's API asks for another password"
        hint = "set PREFECT_API_AUTH_STRING to what the server has as PREFECT_SERVER_API_AUTH_STRING"
    if failing:
        what = f"Prefect's API answers with an error of its own ({status})"
        hint = "look at the server's log and try again, or unset PREFECT_API_URL to do without"
    raise ToolMissing(what, on=str(PREFECT_API_URL.value()), hint=hint) from error


def _lively() -> bool:
    return sys.stderr.isatty() and not manner.quiet and not manner.json


@contextlib.contextmanager
def _spinner(what: str) -> Iterator[None]:
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


@contextlib.contextmanager
def _bar(step: Step) -> Iterator[Advance]:
    """Bytes done, their speed, and, where the size is known, how much that is of all and how long it will take."""
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
