"""How an application is paused for a copy: the configuration. ``scriptorium.quiesce.pause`` does it."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from scriptorium.limits import Seconds


class Quiesce(BaseModel):
    """The last resort of a snapshot. Exactly one way:

    ``pause_command`` and ``resume_command`` (lists of words, e.g. ``["docker", "pause", "app"]``), or a process and all
    its descendants stopped and continued by signals, named by ``pid``, by ``pid_file``, or by the output of
    ``pid_command``. ``limit``: seconds after which the application is resumed in any case.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pause_command: tuple[str, ...] | None = Field(default=None, min_length=1)
    resume_command: tuple[str, ...] | None = Field(default=None, min_length=1)
    pid: int | None = Field(default=None, gt=1, le=4_194_304)
    pid_file: Path | None = None
    pid_command: tuple[str, ...] | None = Field(default=None, min_length=1)
    limit: Seconds = 30.0

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.pause_command is None) != (self.resume_command is None):
            raise ValueError("pause_command and resume_command belong together")
        ways = (self.pause_command, self.pid, self.pid_file, self.pid_command)
        if sum(way is not None for way in ways) != 1:
            raise ValueError(
                "quiesce needs exactly one of pause_command with resume_command, pid, pid_file, pid_command"
            )
        return self
