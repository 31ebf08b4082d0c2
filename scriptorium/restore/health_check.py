"""Check whether an application works: after a restore, while its previous data is still kept."""

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
    """Start the application, if a command is set for it; then check it until it works or the time is over.

    Raises ``RestoreFailed`` with the last result. Before that it runs the ``stop`` command, and ends the remaining
    processes of the ``start`` command's group.
    """
    started: int | None = None
    began = time.monotonic()
    try:
        if check.start:
            log.info("the application is started: %s", Path(check.start[0]).name)
            started = process.launch(check.start, timeout=check.within)
        log.info("the application is checked, for at most %g s", check.within)
        last = _ask_until(check)
    except ScriptoriumError as error:
        last = str(error)
    except BaseException:
        _stop(check, started)
        raise
    if not last:
        log.info("the application works after %s", wording.duration(time.monotonic() - began))
    if last:
        _stop(check, started)
        raise RestoreFailed(
            f"the application does not work after the restore: {last}", hint="the previous data is put back"
        )


def answering(check: HealthCheck) -> str:
    """What shows that an application is running: the answer of its address; empty if nothing answers.

    A proxy answers 502 to 504 when its application is stopped. A server that takes the connection and sends nothing for
    a while is busy, not stopped. A redirect to an address that cannot be reached from here is an answer.
    """
    if not check.url:
        return ""
    redirects = _Redirects()
    try:
        with urllib.request.build_opener(redirects).open(check.url, timeout=_ASKED_SECONDS) as answer:
            return f"{check.url} answers ({answer.status})"
    except urllib.error.HTTPError as error:
        return "" if error.code in _OF_A_PROXY else f"{check.url} answers ({error.code})"
    except TimeoutError:
        return f"{check.url} takes connections"
    except http.client.HTTPException:
        return f"{check.url} answers"
    except OSError as error:  # URLError is one
        if redirects.elsewhere:
            return f"{check.url} answers (it redirects to another address, which cannot be reached: {error})"
        reason = getattr(error, "reason", error)
        return f"{check.url} answers (TLS)" if isinstance(reason, ssl.SSLError) else ""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects. ``elsewhere``: whether it followed one."""

    elsewhere = False

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        self.elsewhere = True
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _ask_until(check: HealthCheck) -> str:
    """The last failure; empty if the application works."""
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
            timeout = min(_ANSWER_SECONDS, check.within)
            with urllib.request.urlopen(check.url, timeout=timeout):  # noqa: S310 - http(s), checked in settings
                pass
        except http.client.HTTPException as error:
            return f"{check.url}: no answer of HTTP ({type(error).__name__}: {error})"
        except (urllib.error.URLError, OSError) as error:
            return f"{check.url}: {error}"
    return ""


def _stop(check: HealthCheck, started: int | None) -> None:
    """Stop the application. An error of the command is not raised: if the application still has the data open, that is
    found when the data is put back."""
    if check.stop:
        log.info("the application is stopped: %s", Path(check.stop[0]).name)
        with contextlib.suppress(ScriptoriumError):
            process.run(check.stop, timeout=check.within, check=False, users=True)
    if started is not None:
        process.end_group(started)
