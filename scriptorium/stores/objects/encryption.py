"""The table ``age`` of a store of archives: for whom they are encrypted, and the key that opens them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from scriptorium.errors import SettingsError
from scriptorium.fs.system_errors import reason_of

if TYPE_CHECKING:
    from scriptorium.archive.encryption import Keys

ENDING = ".age"

_RECIPIENT = re.compile(r"age1[02-9ac-hj-np-z]{58}")
_IDENTITY = "AGE-SECRET-KEY-1"
_SEALED = ("age-encryption.org/v1", "-----BEGIN AGE ENCRYPTED FILE-----")
_LARGEST = 1 << 20


class Age(BaseModel):
    """``recipients``: public keys (X25519), any of whose private keys opens the archives. ``identity``: the file of one
    of these, as ``age-keygen`` writes it; needed for reading alone. ``names``: whether the manifest beside an
    archive may name the files in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipients: tuple[str, ...] = Field(min_length=1)
    identity: Path | None = None
    names: Literal["readable", "encrypted"] = "readable"

    @field_validator("recipients")
    @classmethod
    def _are_recipients(cls, recipients: tuple[str, ...]) -> tuple[str, ...]:
        for one in recipients:
            if _RECIPIENT.fullmatch(one) is None:
                raise ValueError("a recipient is 'age1' and 58 letters and digits; age-keygen shows it")
        return tuple(dict.fromkeys(recipients))

    def keys_for(self, recipients: tuple[str, ...] | None = None) -> Keys:
        """What opens an archive that is encrypted for these; by default for ours."""
        from scriptorium.archive.encryption import NO_KEY, Keys, public

        identities, trouble = _identities(self.identity) if self.identity else ((), NO_KEY)
        try:
            public(identities)
        except SettingsError as error:  # a backup needs no key: only reading says so
            identities, trouble = (), f"{error.what}: {self.identity}"
        return Keys(identities, self.recipients if recipients is None else recipients, trouble)


def _identities(file: Path) -> tuple[tuple[str, ...], str]:
    """The private keys in a file, or why there are none."""
    try:
        with file.expanduser().open(encoding="ascii", errors="replace") as stream:
            lines = stream.read(_LARGEST).split("\n")
    except OSError as error:
        return (), f"the key's file cannot be read: {reason_of(error)}: {file}"
    if lines[0].startswith(_SEALED):
        return (), f"the key in {file} is itself encrypted by a passphrase; open it first: age -d -o KEY {file}"
    found = tuple(line.strip() for line in lines if line.startswith(_IDENTITY))
    if not found:
        return (), f"there is no private key of age in {file}"
    return found, ""


def age_of(identity: Path) -> Age:
    """The table for whoever has only the file of the key."""
    from scriptorium.archive.encryption import public

    identities, trouble = _identities(identity)
    if trouble:
        raise SettingsError(trouble)
    return Age(recipients=public(identities), identity=identity)
