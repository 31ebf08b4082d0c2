"""rsync and ssh: how they are called, and what their failures mean.

Nothing asks a person: ssh runs in batch mode. rsync runs in the C locale, so a name that it prints is ASCII; what is
not printable is there as ``\\#ooo``.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scriptorium import process
from scriptorium.errors import (
    NoSpace,
    NotFound,
    ScriptoriumError,
    StoreRefused,
    StoreUnavailable,
    ToolFailed,
    ToolMissing,
    ToolStalled,
)

PROGRAM, SHELL = "rsync", "ssh"
INCOMPLETE = (23, 24)  # something was not transferred, a file vanished
ANSWERS_WITHIN = 120.0  # seconds for what takes a moment
_NOT_THERE, _CONNECTION_LOST = 127, 255
_UNATTENDED = ("BatchMode=yes", "ConnectTimeout=15", "ServerAliveInterval=15", "ServerAliveCountMax=4")
_ENVIRONMENT = {
    "LC_ALL": "C",
    "TZ": "UTC0",
    "RSYNC_PARTIAL_DIR": "",
    "RSYNC_ICONV": "",
    "RSYNC_RSH": "",
    "RSYNC_OLD_ARGS": "",
}
_NO_CONNECTION = re.compile(
    r"connection (?:refused|reset|timed out|closed)|no route to host|network is unreachable|operation timed out"
    r"|could not resolve|name or service not known|broken pipe|timeout, server .* not responding|kex_exchange",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"permission denied \([a-z]|too many authentication failures|no more authentication", re.IGNORECASE
)


class Incomplete(StoreUnavailable):
    """Something was not transferred; everything else was."""


@dataclass(frozen=True, slots=True)
class Rsync:
    """rsync to one place. ``host``: as rsync writes it, empty for this machine; ``shell``: the words of ssh."""

    name: str
    host: str = ""
    shell: tuple[str, ...] = (SHELL,)
    options: tuple[str, ...] = ()

    def there(self, path: str) -> str:
        """A path of the place, as rsync writes it."""
        return f"{self.host}:{path}" if self.host else path

    def run(self, *words: str, input: bytes | None = None) -> process.Outcome:
        """Run rsync to its end. Raises what its failure means; an incomplete transfer is one."""
        done = self._run(self._argv(words), input, None)
        if done.status != 0:
            raise self.failure(done.status, done.stderr)
        return done

    @contextlib.contextmanager
    def sending(self, *words: str) -> Iterator[io.BufferedReader]:
        """What rsync prints while it sends, as a stream; what its failure means is raised when the block ends.
        ``Incomplete`` where single files were not transferred."""
        with self._streamed(self._argv(words), sending=True) as output:
            yield output

    def command(self, script: str, *arguments: str, input: bytes | None = None, within: float | None = None) -> bytes:
        """Run a script of the shell on the host; ``$1``… are its arguments. Returns what it prints."""
        done = self.attempt(script, *arguments, input=input, within=within)
        if done.status != 0:
            raise self.failure(done.status, done.stderr)
        return done.stdout

    def attempt(
        self, script: str, *arguments: str, input: bytes | None = None, within: float | None = None
    ) -> process.Outcome:
        """The same, where its exit status is an answer."""
        done = self._run(self._remote(script, arguments), input, within)
        if done.status == _CONNECTION_LOST:
            raise self.failure(done.status, done.stderr)
        return done

    @contextlib.contextmanager
    def command_stream(self, script: str, *arguments: str) -> Iterator[io.BufferedReader]:
        """What a script on the host prints, as a stream."""
        with self._streamed(self._remote(script, arguments)) as output:
            yield output

    def _run(self, argv: Sequence[str], input: bytes | None, within: float | None) -> process.Outcome:
        self._require()
        try:
            return process.run(argv, env=_ENVIRONMENT, input=input, timeout=within, check=False)
        except ToolStalled as error:
            raise StoreUnavailable("the store does not answer in time", on=self.name, hint=error.what) from None

    @contextlib.contextmanager
    def _streamed(self, argv: Sequence[str], *, sending: bool = False) -> Iterator[io.BufferedReader]:
        self._require()
        try:
            with process.stream(argv, env=_ENVIRONMENT) as output:
                yield output
        except ToolFailed as error:
            status, stderr = error.status or 0, error.hint.replace("; ", "\n") or error.what
            raise self.failure(status, stderr, sending=sending) from None

    def _require(self) -> None:
        process.find_tool(PROGRAM, package=PROGRAM)
        if self.host:
            process.find_tool(self.shell[0], package="openssh-client")

    def _argv(self, words: Sequence[str]) -> list[str]:
        shell = [f"--rsh={' '.join(_quoted(word) for word in self._ssh())}"] if self.host else []
        return [PROGRAM, "-s", *shell, *self.options, *words]

    def _remote(self, script: str, arguments: Sequence[str]) -> list[str]:
        host = re.sub(r"\[(.*)\]$", r"\1", self.host)  # rsync alone puts brackets round an address
        return [*self._ssh(), "--", host, shlex.join(["sh", "-c", script, "sh", *arguments])]

    def _ssh(self) -> list[str]:
        return [*self.shell, *(word for option in _UNATTENDED for word in ("-o", option))]

    def failure(self, status: int, stderr: str, *, sending: bool = False) -> ScriptoriumError:
        """What a failure means, of rsync or of ssh. ``sending``: single files may have failed, and others not."""
        lines = [line.strip() for line in stderr.splitlines() if line.strip()]
        why = next((line for line in lines if not line.startswith(("rsync error:", "rsync warning:"))), "")
        why = why or (lines[-1] if lines else f"it ended with status {status}")
        return self._of_connection(status, stderr, why) or self._of_place(status, stderr, why, sending=sending)

    def _of_connection(self, status: int, stderr: str, why: str) -> ScriptoriumError | None:
        shown = self.name
        if "ost key verification failed" in stderr or "IDENTIFICATION HAS CHANGED" in stderr:
            changed = "IDENTIFICATION HAS CHANGED" in stderr
            hint = (
                "has it been installed again? ssh-keygen -R HOST, then"
                if changed
                else "once, as the user who runs this,"
            )
            return StoreRefused(
                f"the key of the host is {'another one than before' if changed else 'not known'}",
                on=shown,
                hint=f"{hint} connect by ssh and compare the key",
            )
        if _DENIED.search(stderr):
            return StoreRefused(
                "the host does not let us in", on=shown, hint=f'{why}; check the key (ssh = ["ssh", "-i", FILE])'
            )
        if status == _NOT_THERE or "remote command not found" in stderr:
            return ToolMissing(
                "rsync is not installed on the host of the store" if PROGRAM in why else f"a program is missing: {why}",
                on=shown,
                hint="apt-get install rsync there, or name it: rsync_path",
            )
        if status in (5, 10, 30, 35, _CONNECTION_LOST) or _NO_CONNECTION.search(why):
            return StoreUnavailable(f"the host of the store does not answer: {why}", on=shown, hint="try again later")
        return None

    def _of_place(self, status: int, stderr: str, why: str, *, sending: bool) -> ScriptoriumError:
        shown = self.name
        if "No space left on device" in stderr or "Disk quota exceeded" in stderr:
            return NoSpace("the store is full", on=shown, hint="free some space there, or run cleanup")
        if "Read-only file system" in stderr:
            return StoreUnavailable("the store is mounted read-only", on=shown, hint="mount it for writing")
        if sending and status in INCOMPLETE:
            return Incomplete("rsync could not transfer everything", on=shown, hint=why)
        if "Permission denied" in stderr or "Operation not permitted" in stderr:
            return StoreUnavailable(f"permission denied in the store: {why}", on=shown, hint="give its user the right")
        if "No such file or directory" in stderr:
            return NotFound("it is not there", on=shown, hint=why)
        if status < 0:
            return StoreUnavailable("rsync was ended by a signal", on=shown, hint="try again")
        return StoreUnavailable(f"the store does not answer: {why}", on=shown, hint=f"rsync ended with status {status}")


def _quoted(word: str) -> str:
    """A word of ``--rsh``: rsync splits it at spaces, knows quotes, and reads a doubled quote as one."""
    return "'" + word.replace("'", "''") + "'"
