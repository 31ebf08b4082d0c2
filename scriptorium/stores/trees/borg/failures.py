"""What the failures of borg mean: by the identifier that it logs with each error, the same in borg 1.2 and 1.4."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scriptorium.errors import (
    DamageFound,
    NoSpace,
    NotFound,
    ScriptoriumError,
    StoreRefused,
    StoreUnavailable,
)

_TRACEBACK = "Traceback (most recent call last)"
_SPACE = re.compile(r"No space left on device|[Qq]uota (?:of \S+ )?exceeded|Insufficient free space|storage quota")
_LOST_SEGMENT = re.compile(r"FileNotFoundError.*/data/\d+/\d+'")
_DENIED = re.compile(r"Permission denied|Read-only file system|Operation not permitted")
_NO_ENTRY = re.compile(r"Permission denied \(|Host key verification failed|Too many authentication failures")
_NO_BORG = re.compile(
    r"borg\S*: (?:command )?not found|not found: \S*borg|borg'?: No such file or directory", re.IGNORECASE
)
_LOCK_FILE = re.compile(r"acquire the lock (.+?)\.exclusive")
_ACCESS_HINT = "check password_file, password_env or password_command of the store"
_KEY_HINT = "keyfile modes keep the key on the host that made the repository: borg key import puts it here"
_COPY_HINT = "use another copy of this backup; borg check examines the repository"
_MOVED_HINT = (
    "if you moved it, or mounted it elsewhere, run once with BORG_RELOCATED_REPO_ACCESS_IS_OK=yes in the environment"
)


_REFUSED: dict[tuple[str, ...], tuple[str, str]] = {  # names of errors: what failed, what to do
    ("PassphraseWrong", "NoPassphraseFailure", "PasswordRetriesExceeded", "PasscommandFailure"): (
        "the repository does not open with this password",
        _ACCESS_HINT,
    ),
    ("KeyfileNotFoundError", "KeyfileInvalidError", "KeyfileMismatchError", "RepoKeyNotFoundError"): (
        "the key of the repository is not here: {last}",
        _KEY_HINT,
    ),
    ("ParentPathDoesNotExist",): ("the folder for the repository is not there", "make it; is the disk mounted?"),
    ("InvalidRepository", "InvalidRepositoryConfig", "AtticRepository", "PathAlreadyExists"): (
        "this is no repository that borg 1 reads: {last}",
        "name another folder, or an empty one; a repository of borg 2 needs borg 2",
    ),
    ("RepositoryAccessAborted",): ("the repository was at another place before", _MOVED_HINT),
    ("CacheInitAbortedError",): (
        "the repository is not encrypted, and this host has not seen it before",
        'if that is right, set encryption = "none" of the store',
    ),
    ("EncryptionMethodMismatch", "RepositoryReplay", "RepositoryIDNotUnique"): (
        "this is not the repository that this host knows: {last}",
        "was it replaced, or restored from an older copy? the FAQ of borg explains how to accept that",
    ),
}


class NoRepository(StoreUnavailable):
    """There is none yet, where one may be made."""


class Locked(StoreUnavailable):
    """Somebody else works on the repository, or died on another host while they did."""


class ReadOnly(StoreRefused):
    """Nothing can be written there."""


@dataclass(frozen=True, slots=True)
class Message:
    """One line of borg's log. ``name``: the identifier of an error."""

    level: str
    text: str
    name: str = ""


def messages(lines: Iterable[str]) -> Iterator[Message]:
    """The messages among the lines of standard error; lines that borg did not log itself are errors, too."""
    for line in lines:
        text = line.strip()
        if not text:
            continue
        try:
            record = json.loads(text)
        except ValueError:
            yield Message("ERROR", text)
            continue
        if isinstance(record, dict) and record.get("type") == "log_message":
            yield Message(str(record.get("levelname")), str(record.get("message")), str(record.get("msgid") or ""))


def failure(name: str, status: int, lines: Iterable[str]) -> ScriptoriumError:
    """The error of a run that failed on the repository ``name``. ``lines``: the last ones that it logged."""
    found = list(messages(lines))
    text = "\n".join(one.text for one in found)
    named = next((one for one in reversed(found) if one.name), None)
    kind = named.name if named is not None else ""
    if status < 0 or kind.startswith("Signal."):
        return StoreUnavailable("borg was ended by a signal", on=name, hint="try again")
    if _SPACE.search(text):
        return NoSpace("the repository or the cache of borg is full", on=name, hint="free some space there")
    last = next((one.text for one in reversed(found) if _TRACEBACK not in one.text), "") or f"status {status}"
    last = named.text if named is not None and named.text != "Local Exception" else last
    last = _one_line(last)
    known = _by_name(kind, name, last, text)
    return known if known is not None else _by_text(name, last, text)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _by_name(kind: str, name: str, last: str, text: str) -> ScriptoriumError | None:
    """``kind``: such as ``Repository.DoesNotExist``; its first word is left out where another class raises it."""
    short = kind.rpartition(".")[2]
    if short.startswith("Lock"):
        return _locked(short, name, last)
    if short.startswith("Connection"):
        return _connection(name, last, text)
    if short.startswith("Integrity") or short in ("ObjectNotFound", "CheckNeeded"):
        return DamageFound(f"borg cannot read it: {last}", on=name, hint=_COPY_HINT)
    if kind == "Archive.DoesNotExist":
        return NotFound("there is no such backup", on=name)
    if short == "DoesNotExist":
        return NoRepository("there is no repository yet", on=name, hint="the first backup makes it")
    known = next((one for names, one in _REFUSED.items() if short in names), None)
    return StoreRefused(known[0].replace("{last}", last), on=name, hint=known[1]) if known is not None else None


def _connection(name: str, last: str, text: str) -> ScriptoriumError:
    remote = [line.removeprefix("Remote: ") for line in text.splitlines() if line.startswith("Remote: ")]
    reason = _one_line(remote[-1]) if remote else last
    if _NO_ENTRY.search(text):
        hint = "check the key of ssh, known_hosts and ssh_command of the store"
        return StoreRefused(f"the server does not let us in: {reason}", on=name, hint=hint)
    if _NO_BORG.search(text):
        hint = "install borg on the server, or say with remote_path where it is"
        return StoreRefused(f"there is no borg on the server: {reason}", on=name, hint=hint)
    return StoreUnavailable(f"the repository does not answer: {reason}", on=name, hint="try again later")


def _locked(short: str, name: str, last: str) -> ScriptoriumError:
    if _DENIED.search(last):
        return ReadOnly(f"the repository may only be read: {last}", on=name, hint="is its disk mounted read-only?")
    found = _LOCK_FILE.search(last)
    holders = _holders(Path(found[1] + ".exclusive")) if found else []
    return Locked(
        f"the repository is locked by {', '.join(holders) or 'another run'}",
        on=name,
        hint="wait for it; if it is dead and on another host, remove its lock there: borg break-lock",
    )


def _holders(lock: Path) -> list[str]:
    """Who holds a lock on this machine's disk: borg names them ``HOST@NUMBER.PID-THREAD``. Readers stand in a file
    beside it."""
    try:
        names = [one.name for one in lock.iterdir()]
    except OSError:
        names = []
    try:
        roster = json.loads(lock.with_suffix(".roster").read_text())
        names += [f"{host}.{pid}-{thread}" for held in roster.values() for host, pid, thread in held]
    except (OSError, ValueError, AttributeError, TypeError):
        pass
    return list(dict.fromkeys(map(_holder, names)))


def _holder(name: str) -> str:
    host, _, number = name.rpartition(".")
    return f"process {number.partition('-')[0]} on {host.partition('@')[0]}"


def _by_text(name: str, last: str, text: str) -> ScriptoriumError:
    if _LOST_SEGMENT.search(text):
        return DamageFound("borg cannot read it: a file of the repository is missing", on=name, hint=_COPY_HINT)
    if _DENIED.search(text):
        reason = next(line for line in reversed(text.splitlines()) if _DENIED.search(line))
        return StoreRefused(f"borg may not do that: {_one_line(reason)}", on=name, hint="check the owner and the modes")
    if "IntegrityError" in text or "ObjectNotFound" in text:
        return DamageFound(f"borg cannot read it: {last}", on=name, hint=_COPY_HINT)
    return StoreUnavailable(f"borg failed: {last}", on=name)
