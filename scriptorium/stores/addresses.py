"""A store by its address alone, for a machine that has no settings: ``s3://BUCKET/PREFIX?endpoint_url=URL``,
``restic:REPOSITORY``, ``borg:REPOSITORY``, ``rsync:USER@HOST:/FOLDER``, ``rclone:REMOTE:PATH``, ``file:///FOLDER``, or
the path of a folder.

A kind of store is understood here when it declares the classmethod ``from_url(url)``: it returns the
table of its settings, without secrets, or ``None`` for an address of another kind. Secrets never stand in an
address: it is in the history of the shell and in the list of processes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from pydantic import ValidationError

from scriptorium.errors import UsageError
from scriptorium.stores import KINDS, BackupStore, age_of
from scriptorium.stores.trees.password import PasswordSettings

_USER_AND_PASSWORD = re.compile(r"//[^/@\s]*:[^/@\s]*@")
_SECRET = re.compile(r"[?&](password|secret|token|access_key|secret_key|aws_[a-z_]*)=", re.IGNORECASE)
_WAYS = (
    "s3://BUCKET/PREFIX?endpoint_url=URL, restic:REPOSITORY, borg:REPOSITORY, rsync:HOST:/FOLDER, rclone:REMOTE:PATH, "
    "file:///FOLDER, or a folder"
)


def is_address(word: str) -> bool:
    """Whether this is an address, and not the name of a store of the settings."""
    return ":" in word or "/" in word or word in (".", "..")


def store_at(url: str, *, password_file: Path | None = None, identity: Path | None = None) -> BackupStore:
    """The store at an address. Where its password is: ``password_file``, else the variables that its own program
    reads. ``identity``: the private key of encrypted archives. ``UsageError``."""
    require_no_secret(url)
    for kind, model in KINDS.items():
        from_url: Callable[[str], Mapping[str, object] | None] | None = getattr(model, "from_url", None)
        table = from_url(url) if from_url is not None else None
        if table is None:
            continue
        given = {"kind": kind, "name": kind, **table}
        if password_file is not None:
            _require(issubclass(model, PasswordSettings), "--password-file", kind)
            given = {name: value for name, value in given.items() if not name.startswith("password")}
            given["password_file"] = password_file.absolute()
        if identity is not None:
            _require("age" in model.model_fields, "--identity", kind)
            given["age"] = age_of(identity.absolute())
        try:
            return cast(BackupStore, model.model_validate(given))
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, problem["loc"]))
            raise UsageError(
                f"this address cannot be used: {where}: {problem['msg']}", on=url, hint=_hint(model)
            ) from None
    raise UsageError("this is not the address of a store", on=url, hint=_WAYS)


def require_no_secret(url: str) -> None:
    """``UsageError`` for an address with a password in it; the error does not repeat it."""
    if _USER_AND_PASSWORD.search(url) or _SECRET.search(url):
        raise UsageError(
            "a password is in the address: everybody on this machine can read it in the list of processes",
            hint="use --password-file, ~/.aws/credentials, or the variables of the store's program "
            "(RESTIC_REST_USERNAME and RESTIC_REST_PASSWORD, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)",
        )


def _require(can: bool, option: str, kind: str) -> None:
    if not can:
        raise UsageError(f"a store of the kind {kind} takes no {option}")


def _hint(model: type[object]) -> str:
    if issubclass(model, PasswordSettings):
        return "say where its password is: --password-file FILE"
    return _WAYS
