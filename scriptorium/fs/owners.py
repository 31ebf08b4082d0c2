"""Users and groups, by number and by name."""

from __future__ import annotations

import functools
import grp
import pwd


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
