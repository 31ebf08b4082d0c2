"""What the modules log: legible, private, rotating, without secrets."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from scriptorium import logs
from scriptorium.cli.output import complain
from scriptorium.errors import SettingsError
from scriptorium.progress import step

log = logging.getLogger("scriptorium.a_module")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    logger, make = logging.getLogger(logs.OURS), logging.getLogRecordFactory()
    handlers, level = list(logger.handlers), logger.level
    yield
    for handler in [one for one in logger.handlers if one not in handlers]:
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(level)
    logging.setLogRecordFactory(make)


def test_a_file_is_private_and_has_time_level_module_and_words(tmp_path: Path) -> None:
    file = tmp_path / "s.log"
    logs.to_file(file)
    log.info("%s was skipped: %s", "a\nfalse line\x1b[31m", "no file")
    (line,) = file.read_text().splitlines()
    assert "INFO" in line and "scriptorium.a_module: a\\nfalse line\\x1b[31m was skipped: no file" in line
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_it_rotates_and_keeps_a_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_LARGEST", 2000)
    file = tmp_path / "s.log"
    logs.to_file(file)
    for number in range(400):
        log.info("line %d", number)
    kept = sorted(path.name for path in tmp_path.glob("s.log*") if not path.name.endswith(".lock"))
    assert kept == ["s.log", *(f"s.log.{number}" for number in range(1, 6))]
    assert all(stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600 for name in kept)
    assert "line 399" in file.read_text()


def test_a_file_that_another_process_has_begun_anew_is_followed(tmp_path: Path) -> None:
    file = tmp_path / "s.log"
    logs.to_file(file)
    log.info("before")
    file.rename(tmp_path / "s.log.1")
    log.info("after")
    assert "after" in file.read_text() and "after" not in (tmp_path / "s.log.1").read_text()


def test_a_named_file_that_cannot_be_written_is_an_error_and_a_configured_one_is_not(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="log file cannot be written"):
        logs.to_file(tmp_path / "nowhere" / "s.log")
    logs.to_configured_file(tmp_path / "nowhere" / "s.log")


@pytest.mark.parametrize("kind", ["pipe", "device", "link"])
def test_what_is_no_regular_file_is_no_log(tmp_path: Path, kind: str) -> None:
    """A pipe that nobody reads would be waited for without end."""
    file = tmp_path / "s.log"
    if kind == "pipe":
        os.mkfifo(file)
    if kind == "link":
        file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SettingsError, match="log file cannot be written"):
        logs.to_file(Path("/dev/null") if kind == "device" else file)
    assert not (tmp_path / "elsewhere").exists()


def test_what_a_command_failed_with_is_in_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs.to_file(tmp_path / "s.log")
    complain("there is no such backup: \x1b[31mred", "run: scriptorium list", None)
    (line,) = (tmp_path / "s.log").read_text().splitlines()
    assert "ERROR" in line and "there is no such backup" in line and "\x1b" not in line
    assert capsys.readouterr().err.count("there is no such backup") == 1


def test_a_step_logs_its_beginning_and_its_duration(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="scriptorium")
    with step("packing", "x.tar", expected=2048) as advance:
        advance(1024)
    with pytest.raises(ZeroDivisionError), step("verifying", "x.tar"):
        raise ZeroDivisionError("why")
    messages = [record.getMessage() for record in caplog.records]
    assert messages[0] == "packing x.tar: 2.0 KiB expected" and messages[1].startswith(
        "packing x.tar: done, 1.0 KiB in "
    )
    assert messages[3].startswith("verifying x.tar ended after ") and messages[3].endswith(": why")
