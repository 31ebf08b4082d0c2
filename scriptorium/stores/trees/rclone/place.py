"""Where an rclone store is, and how rclone gets into it: a remote of the user's own file, or one of the settings."""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from scriptorium import process
from scriptorium.errors import SettingsError
from scriptorium.limits import Word
from scriptorium.stores.trees.rclone.program import Rclone, obscured, password_options

_NAME = re.compile(r"(?P<name>[A-Za-z0-9_][A-Za-z0-9_.+@ -]*):(?P<path>.*)")
_OWN = re.compile(r"[A-Za-z0-9_]+")
_LOCAL = re.compile(r":local:(/.*)")
_OPTION = re.compile(r"[a-z0-9_]+")


class RclonePlace(BaseModel):
    """``remote``: ``name:path``, or an absolute path. ``config``: the file of rclone; its own one where none is named.

    ``options``: make a remote of that name here, as in a section of that file; those that are secret are named by
    ``options_file``, ``options_env``, ``options_command``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    remote: str = Field(min_length=1, max_length=4096, pattern=r"^[^\x00\n]*$", repr=False)
    config: Path | None = None
    config_password: SecretStr | None = None
    config_password_file: Path | None = None
    config_password_env: str = ""
    config_password_command: str = ""
    options: Mapping[str, str] = Field(default_factory=dict, repr=False)
    options_file: Mapping[str, Path] = Field(default_factory=dict)
    options_env: Mapping[str, str] = Field(default_factory=dict)
    options_command: Mapping[str, tuple[Word, ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        found = _NAME.fullmatch(self.remote)
        if found is None and not self.remote.startswith("/") and not _LOCAL.fullmatch(self.remote):
            raise ValueError("the remote is name:path as rclone writes it, or an absolute path")
        named = [*self.options, *self.options_file, *self.options_env, *self.options_command]
        if named and (found is None or not _OWN.fullmatch(found["name"])):
            raise ValueError("a remote with options needs a name of letters, digits and _, as in 'offsite:bucket'")
        if named and "type" not in self.options:
            raise ValueError("the options of a remote need its type, as in {type = 's3'}")
        if len(named) != len(set(named)) or not all(map(_OPTION.fullmatch, named)):
            raise ValueError("each option of the remote is named once, in small letters, as in rclone's own file")
        ways = (self.config_password is not None, self.config_password_file is not None)
        if sum(map(bool, (*ways, self.config_password_env, self.config_password_command))) > 1:
            raise ValueError("say in one way where the password of rclone's file is")
        return self

    @property
    def folder(self) -> Path | None:
        """The folder on this machine, where the remote is one."""
        if self.remote.startswith("/"):
            return Path(self.remote)
        found = _LOCAL.fullmatch(self.remote)
        return Path(found[1]) if found else None

    @property
    def encrypted(self) -> bool:
        """Whether the remote is one of rclone's crypt, as far as its file can be read."""
        if self.options:
            return self.options.get("type") == "crypt"
        name, _, _ = self.remote.partition(":")
        file = self.config or Path("~/.config/rclone/rclone.conf").expanduser()
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):
            return False
        return parser.get(name, "type", fallback="") == "crypt"

    def rclone(self, store: str, words: tuple[str, ...]) -> Rclone:
        """rclone on this remote. ``SettingsError`` where a secret cannot be had."""
        environment: dict[str, str] = {}
        secrets: list[str] = []
        if self.config is not None:
            environment["RCLONE_CONFIG"] = str(self.config)
        password = self._config_password(store)
        if password:
            environment["RCLONE_CONFIG_PASS"] = password
            secrets.append(password)
        if self.config_password_command:
            environment["RCLONE_PASSWORD_COMMAND"] = self.config_password_command
        name = self.remote.partition(":")[0].upper()
        for option, value in self.options.items():
            environment[f"RCLONE_CONFIG_{name}_{option.upper()}"] = value
        passwords: frozenset[str] = frozenset()
        for option, value in self._secrets(store):
            passwords = passwords or password_options(self.options["type"])
            hidden = obscured(value) if option in passwords else value
            environment[f"RCLONE_CONFIG_{name}_{option.upper()}"] = hidden
            secrets += [value, hidden]
        return Rclone(self.remote, shown(self.remote), environment, words, tuple(secrets))

    def _config_password(self, store: str) -> str:
        if self.config_password is not None:
            return self.config_password.get_secret_value()
        if self.config_password_file is not None:
            return _of_file(self.config_password_file, store)
        return _of_variable(self.config_password_env, store) if self.config_password_env else ""

    def _secrets(self, store: str) -> Iterator[tuple[str, str]]:
        for option, file in self.options_file.items():
            yield option, _of_file(file, store)
        for option, variable in self.options_env.items():
            yield option, _of_variable(variable, store)
        for option, command in self.options_command.items():
            yield option, process.run(command, timeout=60).stdout.decode().rstrip("\r\n")


def shown(remote: str) -> str:
    """A remote as people may read it: options that stand in its name may be secret."""
    return re.sub(r"^([^:/]*),[^:]*.*?:", r"\1:", remote)


def _of_file(file: Path, store: str) -> str:
    try:
        return file.read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", "") or "it is no text"
        raise SettingsError(f"a secret cannot be read: {why}", on=f"{store}: {file}") from None


def _of_variable(variable: str, store: str) -> str:
    value = process.variable(variable)
    if not value:
        raise SettingsError("the variable with a secret is not set", on=f"{store}: {variable}")
    return value
