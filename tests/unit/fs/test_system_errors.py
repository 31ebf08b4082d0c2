"""Errors of the operating system, translated to errors with a hint."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from scriptorium.fs import system_errors

KINDS = "EROFS ENOSPC EDQUOT EFBIG EIO ESTALE ENAMETOOLONG EMFILE ELOOP ENOENT ENOTDIR EISDIR ENOMEM EACCES EPERM"


@pytest.mark.parametrize("kind", KINDS.split())
def test_every_kind_of_error_has_a_reason_and_a_hint(kind: str, tmp_path: Path) -> None:
    error = OSError(getattr(errno, kind), os.strerror(getattr(errno, kind)), str(tmp_path))
    assert system_errors.reason_of(error)
    assert system_errors.advice(error, tmp_path)


def test_what_is_not_known_is_quoted() -> None:
    error = OSError(errno.EXFULL, os.strerror(errno.EXFULL))
    assert (system_errors.reason_of(error), system_errors.advice(error)) == ("Exchange full", "")
    assert system_errors.reason_of(OSError("of its own")) == "of its own"


def test_who_owns_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    denied = PermissionError(errno.EACCES, "Permission denied")
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    if tmp_path.stat().st_uid == 0:
        assert system_errors.advice(denied, tmp_path / "a" / "b") == (
            f"run it as root, who owns {tmp_path}, or give this user the right"
        )
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid or 0)
    assert system_errors.advice(denied, tmp_path)


def test_a_filesystem_that_is_read_only_is_no_question_of_who_runs_it() -> None:
    if not os.statvfs("/proc/sys").f_flag & os.ST_RDONLY and not os.statvfs("/sys").f_flag & os.ST_RDONLY:
        pytest.skip("nothing is mounted read-only here")
    place = next(Path(one) for one in ("/proc/sys", "/sys") if os.statvfs(one).f_flag & os.ST_RDONLY)
    error = system_errors.cannot_write(place)
    assert "read-only" in system_errors.reason_of(error) and "owns" not in system_errors.advice(error, place)
