"""Users and groups, by number and by name."""

from __future__ import annotations

import functools
import grp
import os
import pwd
from dataclasses import dataclass

from scriptorium.errors import UsageError


@functools.lru_cache(maxsize=1024)
def user_name(number: int) -> str:
    """The name of a user on this machine; empty if there is none."""
    try:
        return pwd.getpwuid(number).pw_name
    except (KeyError, OverflowError):
        return ""


@functools.lru_cache(maxsize=1024)
def group_name(number: int) -> str:
    """The name of a group on this machine; empty if there is none."""
    try:
        return grp.getgrgid(number).gr_name
    except (KeyError, OverflowError):
        return ""


@functools.lru_cache(maxsize=1024)
def user_number(name: str, number: int) -> int:
    """The number of this user on this machine: by name if the name is known, else the given number, as tar does."""
    try:
        return pwd.getpwnam(name).pw_uid if name else number
    except (KeyError, ValueError):
        return number


@functools.lru_cache(maxsize=1024)
def group_number(name: str, number: int) -> int:
    """The same of a group."""
    try:
        return grp.getgrnam(name).gr_gid if name else number
    except (KeyError, ValueError):
        return number


@dataclass(frozen=True, slots=True)
class Ownership:
    """Who owns what is restored. ``uid`` and ``gid``: these, instead of the recorded ones. ``asked``: the user chose
    it, so whatever cannot be set is reported. ``replaces``: the group takes the place of the recorded one, with its
    rights."""

    uid: int | None = None
    gid: int | None = None
    asked: bool = False
    replaces: bool = False

    @property
    def given(self) -> tuple[int, int] | None:
        """The owner of everything; ``None`` if each entry has its own."""
        return None if self.uid is None or self.gid is None else (self.uid, self.gid)

    @property
    def attempted(self) -> bool:
        """Whether owners are set at all: only root may, and others try it if they were asked to."""
        return self.asked or os.geteuid() == 0

    @property
    def possible(self) -> bool:
        """Whether we may give files to everybody that this can name."""
        if os.geteuid() == 0:
            return True
        groups = {os.getegid(), *os.getgroups()}
        return self.given is not None and self.uid == os.geteuid() and self.gid in groups

    def __str__(self) -> str:
        if self.given is None:
            return "as recorded"
        return f"{user_name(self.given[0]) or self.given[0]}:{group_name(self.given[1]) or self.given[1]}"


AS_RECORDED = Ownership()


def ownership(word: str | None) -> Ownership:
    """What ``--owner`` means here: ``keep``, ``me``, ``UID:GID`` (names or numbers); ``None`` if nothing was chosen.
    ``UsageError`` if nobody here has that name."""
    if word is None:
        return AS_RECORDED
    if word == "keep":
        return Ownership(asked=True)
    if word == "me":
        return Ownership(os.geteuid(), os.getegid(), asked=True)
    user, _, group = word.partition(":")
    uid, gid = _number(user, user_number(user, -1)), _number(group, group_number(group, -1))
    if uid < 0 or gid < 0:
        raise UsageError(
            f"there is no {'user' if uid < 0 else 'group'} '{user if uid < 0 else group}' on this machine",
            on=f"--owner {word}",
            hint="use numbers, e.g. --owner 1000:1000",
        )
    return Ownership(uid, gid, asked=True, replaces=True)


def _number(word: str, known: int) -> int:
    return int(word) if word.isdecimal() else known
