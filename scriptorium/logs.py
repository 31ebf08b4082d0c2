"""Where the lines go that the modules of ``scriptorium`` log: a terminal (``--verbose``), a file (``--log-file``).

Modules log with the standard library (``logging.getLogger(__name__)``) what an operator needs on a bad day: what began,
what was decided, how long it took, what was skipped and why. Names in these lines are data: they are made legible here,
for every handler, when a record is made. Secrets are never logged: what may hold one is masked where it is known.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import logging.handlers
import os
import stat
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from scriptorium.errors import SettingsError
from scriptorium.wording import legible, legible_lines

OURS = "scriptorium"
_LARGEST = 5 << 20  # bytes of a log file, before the next one is begun
_KEPT = 5
_FORM = "%(asctime)s %(levelname)-7s %(process)d %(name)s: %(message)s"


def make_legible() -> None:
    """Make every record of ours, and of Prefect, legible from now on. Records are changed when they are made, since
    others add handlers that we do not know of."""
    make = logging.getLogRecordFactory()
    if getattr(make, "is_legible", False):
        return

    def legible_record(*args: Any, **more: Any) -> logging.LogRecord:
        record = make(*args, **more)
        if record.name.partition(".")[0] in (OURS, "prefect"):
            with contextlib.suppress(TypeError, ValueError):  # arguments that do not fit: logging says so itself
                record.msg, record.args = legible(record.getMessage()), ()
            if record.exc_info:
                record.exc_text = legible_lines("".join(traceback.format_exception(*record.exc_info)).rstrip())
        return record

    legible_record.is_legible = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(legible_record)


def listen(handler: logging.Handler) -> None:
    """Send what our modules log, from INFO on, to this handler; a second one of its name takes its place."""
    make_legible()
    logger = logging.getLogger(OURS)
    for other in [one for one in logger.handlers if one.name == handler.name]:
        logger.removeHandler(other)
        other.close()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


class _Terminal(logging.StreamHandler[TextIO]):
    """Writes to what is standard error now: a progress bar puts a stream of its own in its place."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.set_name("terminal")
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def to_terminal() -> None:
    """Show on standard error what is logged from now on."""
    listen(_Terminal())


class _File(logging.handlers.RotatingFileHandler):
    """A log file that several processes write (a scheduled backup, a command), 0600, begun anew when it is large."""

    def __init__(self, file: Path) -> None:
        super().__init__(file, maxBytes=_LARGEST, backupCount=_KEPT, encoding="utf-8", errors="backslashreplace")
        self.set_name("file")
        form = logging.Formatter(_FORM, "%Y-%m-%dT%H:%M:%SZ")
        form.converter = time.gmtime
        self.setFormatter(form)

    def _open(self) -> Any:
        def private(path: str, flags: int) -> int:
            # O_NONBLOCK: a pipe that nobody reads would be waited for without end
            descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise OSError(errno.EINVAL, "it is not a regular file")
            return descriptor

        return open(self.baseFilename, "a", encoding="utf-8", errors="backslashreplace", opener=private)

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError), self._alone():
            if self._was_replaced():
                self.close()  # the base class opens it again
            super().emit(record)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """While we write, no other process begins the file anew."""
        descriptor = os.open(f"{self.baseFilename}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _was_replaced(self) -> bool:
        if self.stream is None:
            return False
        try:
            return not os.path.samestat(Path(self.baseFilename).stat(), os.fstat(self.stream.fileno()))
        except FileNotFoundError:
            return True

    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk must not cost a backup; the line is lost."""


def to_file(file: Path) -> None:
    """Write what is logged from now on to a file, which rotates. ``SettingsError`` where it cannot be written."""
    try:
        handler = _File(file)
    except OSError as error:
        raise SettingsError(
            f"the log file cannot be written: {error.strerror or type(error).__name__}",
            on=str(file),
            hint="name a file in a folder that is there and that we may write to",
        ) from error
    listen(handler)


def note_failure(what: str) -> None:
    """Write the error of a command into the log file, if there is one. The terminal has shown it already."""
    logger = logging.getLogger(OURS)
    for handler in logger.handlers:
        if handler.name == "file":
            handler.handle(logger.makeRecord(OURS, logging.ERROR, "", 0, "%s", (what,), None))


def to_configured_file(file: Path | None) -> None:
    """The same for the file of the settings, where none was named on the command line. A backup is taken also where its
    log cannot be written: then there is only a warning."""
    chosen = {one.name for one in logging.getLogger(OURS).handlers}
    if file is None or "file" in chosen:
        return
    try:
        to_file(file)
    except SettingsError as error:
        logging.getLogger(__name__).warning("%s", error)
