"""Ask an application whether it works: after a restore, while its previous data is still kept."""

from __future__ import annotations

import contextlib
import http.client
import logging
import ssl
import time
import urllib.error
import urllib.request
from http.client import HTTPMessage
from pathlib import Path
from typing import IO
from urllib.request import Request

from scriptorium import process, wording
from scriptorium.errors import RestoreFailed, ScriptoriumError, ToolFailed
from scriptorium.settings import HealthCheck

log = logging.getLogger(__name__)

_PAUSE = 0.5
_ANSWER_SECONDS = 10.0
_ASKED_SECONDS = 5.0
_OF_A_PROXY = (502, 503, 504)


def require_healthy(check: HealthCheck) -> None:
    """Start the application where that is set, then ask until it is well or its time is up.

    Raises ``RestoreFailed`` with the last answer. Before that, the ``stop`` command is run, and what ``start`` left in
    its process group is ended.
    """
    started: int | None = None
    began = time.monotonic()
    try:
        if check.start:
            log.info("the application is started: %s", Path(check.start[0]).name)
            started = process.launch(check.start, timeout=check.within)
        log.info("the application is asked whether it is well, for at most %g s", check.within)
        last = _ask_until(check)
    except ScriptoriumError as error:
        last = str(error)
    except BaseException:
        _stop(check, started)
        raise
    if not last:
        log.info("the application is well after %s", wording.duration(time.monotonic() - began))
    if last:
        _stop(check, started)
        raise RestoreFailed(
            f"the application is not well after the restore: {last}", hint="what was there before is put back"
        )


def answering(check: HealthCheck) -> str:
    """What shows that an application is running: what answers now; empty where nothing answers.

    A proxy answers 502 to 504 when its application is stopped. A server that takes the connection and sends nothing for
    a while is busy, not stopped. A redirect to an address that cannot be reached from here is an answer.
    """
    if not check.url:
        return ""
    led = _Led()
    try:
        with urllib.request.build_opener(led).open(check.url, timeout=_ASKED_SECONDS) as answer:
            return f"{check.url} answers ({answer.status})"
    except urllib.error.HTTPError as error:
        return "" if error.code in _OF_A_PROXY else f"{check.url} answers ({error.code})"
    except TimeoutError:
        return f"{check.url} takes connections"
    except http.client.HTTPException:
        return f"{check.url} answers"
    except OSError as error:  # URLError is one
        if led.elsewhere:
            return f"{check.url} answers (it leads to another address, which cannot be reached: {error})"
        reason = getattr(error, "reason", error)
        return f"{check.url} answers (TLS)" if isinstance(reason, ssl.SSLError) else ""


class _Led(urllib.request.HTTPRedirectHandler):
    """Follows redirects, and remembers that it followed one."""

    elsewhere = False

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        self.elsewhere = True
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _ask_until(check: HealthCheck) -> str:
    """The last thing that was wrong; empty when the application works."""
    deadline = time.monotonic() + check.within
    while True:
        last = _ask(check)
        if not last or time.monotonic() > deadline:
            return last
        time.sleep(_PAUSE)


def _ask(check: HealthCheck) -> str:
    if check.command:
        try:
            process.run(check.command, timeout=check.within, users=True)
        except ToolFailed as error:
            return str(error)
    if check.url:
        try:
            patience = min(_ANSWER_SECONDS, check.within)
            with urllib.request.urlopen(check.url, timeout=patience):  # noqa: S310 - http(s), checked in settings
                pass
        except http.client.HTTPException as error:
            return f"{check.url}: no answer of HTTP ({type(error).__name__}: {error})"
        except (urllib.error.URLError, OSError) as error:
            return f"{check.url}: {error}"
    return ""


def _stop(check: HealthCheck, started: int | None) -> None:
    """A failure of the stop command is not raised: whatever still has the data open is found when it is put back."""
    if check.stop:
        log.info("the application is stopped: %s", Path(check.stop[0]).name)
        with contextlib.suppress(ScriptoriumError):
            process.run(check.stop, timeout=check.within, check=False, users=True)
    if started is not None:
        process.end_group(started)
