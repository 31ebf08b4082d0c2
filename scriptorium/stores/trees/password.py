"""The password of a repository: in a file, in a variable, printed by a command, or in the settings."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, SecretStr

from scriptorium import process
from scriptorium.errors import SettingsError


class PasswordSettings(BaseModel):
    """Where the password is. A store that needs one checks ``password_ways``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    password: SecretStr | None = None
    password_file: Path | None = None
    password_env: str = ""
    password_command: str = ""

    @property
    def password_ways(self) -> int:
        """In how many ways the settings name it; one is right."""
        ways = (self.password is not None, self.password_file is not None, self.password_env, self.password_command)
        return sum(map(bool, ways))

    def password_value(self, store: str) -> str | None:
        """The password, if it is in the settings or in a variable; ``None`` if a file or a command has it.
        ``SettingsError`` if the variable is not set."""
        if self.password_file is not None or self.password_command:
            return None
        value = self.password.get_secret_value() if self.password is not None else process.variable(self.password_env)
        if not value:
            raise SettingsError(
                "the variable with the repository's password is not set", on=f"{store}: {self.password_env}"
            )
        return value


def environment_password(variable: str) -> dict[str, str]:
    """Where the password is according to the variables of the store's own program (``RESTIC_PASSWORD``, ``…_FILE``,
    ``…_COMMAND``); nothing if none is set."""
    if file := process.variable(f"{variable}_FILE"):
        return {"password_file": file}
    if command := process.variable(f"{variable}_COMMAND"):
        return {"password_command": command}
    return {"password_env": variable} if process.variable(variable) else {}
