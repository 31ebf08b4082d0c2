"""The address of a PostgreSQL database and the source of its password: settings that become an ``Address``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from scriptorium.errors import SettingsError
from scriptorium.fs.system_errors import advice, reason_of

if TYPE_CHECKING:
    from scriptorium.sources.postgres.connection import Address

_CONNECT_SECONDS = "15"
# A server that vanished is an error after two minutes, not after hours.
_KEEPALIVES = {"keepalives_idle": "60", "keepalives_interval": "10", "keepalives_count": "6"}


class Login(BaseModel):
    """The address of the database, as libpq takes it, and where its password comes from.

    ``pooler``: a connection pooler is refused, unless the setting says that it keeps one session of the server for each
    client ("session").
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    database: str = Field(default="", repr=False)  # a password in it is allowed, if not advised
    service: str = ""
    password: SecretStr | None = None
    password_file: Path | None = None
    password_env: str = ""
    password_command: str | tuple[str, ...] = ()
    pooler: Literal["refuse", "session"] = "refuse"

    def address(self) -> Address:
        """Resolve it. ``SettingsError`` names what is wrong, without quoting it."""
        import psycopg
        from psycopg.conninfo import conninfo_to_dict

        from scriptorium.sources.postgres.connection import Address

        try:
            parsed = conninfo_to_dict(self.database)
        except psycopg.ProgrammingError:
            raise SettingsError(
                "the database's address cannot be read",
                hint="write postgresql://user@host:5432/name, or libpq's key=value words",
            ) from None
        words = {key: str(value) for key, value in parsed.items() if value is not None}
        if self.service:
            words["service"] = self.service
        password = words.pop("password", "") or self._password()
        if "sslpassword" in words:
            raise SettingsError("a key's password cannot be given in an address", hint="use an unencrypted client key")
        words.setdefault("connect_timeout", _CONNECT_SECONDS)
        return Address({**_KEEPALIVES, **words}, password, self.pooler == "session")

    def _password(self) -> str:
        from scriptorium import process

        if self.password is not None:
            return self.password.get_secret_value()
        if self.password_file is not None:
            try:
                return self.password_file.read_text("utf-8").split("\n", 1)[0].strip()
            except OSError as error:
                raise SettingsError(
                    f"the password file cannot be read: {reason_of(error)}",
                    on=str(self.password_file),
                    hint=advice(error, self.password_file),
                ) from None
        if self.password_env:
            value = process.variable(self.password_env)
            if value is None:
                raise SettingsError("the variable with the password is not set", on=self.password_env)
            return value
        if self.password_command:
            command = self.password_command
            argv = shlex.split(command) if isinstance(command, str) else list(command)
            return process.run(argv, timeout=30).stdout.decode().split("\n", 1)[0].strip()
        return ""
