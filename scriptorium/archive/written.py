"""What of an archive was written or read, and where it ends too early."""

from __future__ import annotations

from dataclasses import dataclass

from scriptorium.errors import DamageFound

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Written:
    """What reached the file: bytes and SHA-256."""

    bytes: int
    sha256: str


class EndsEarly(DamageFound):
    """The archive stops before its end."""
