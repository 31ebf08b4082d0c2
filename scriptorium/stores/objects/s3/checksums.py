"""The checksums that are sent with the contents, so that the server refuses contents that were changed on the way."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from scriptorium.stores.objects.s3.place import Checksums

_ALGORITHM = {"sha256": "SHA256", "crc64": "CRC64NVME"}


class _Digested(Protocol):
    @property
    def digest(self) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of checksum, of parts and of whole objects. ``field``: its name in requests and answers, if any."""

    name: Checksums

    @property
    def field(self) -> str:
        return f"Checksum{_ALGORITHM[self.name]}" if self.name in _ALGORITHM else ""

    @property
    def of_upload(self) -> dict[str, str]:
        """The parameters with which an upload in parts begins."""
        if self.name == "crc64":
            return {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"}
        return {"ChecksumAlgorithm": "SHA256"} if self.name == "sha256" else {}

    def begin(self) -> Any:
        """Something with ``update`` and ``digest``; ``None`` for no checksum."""
        if self.name == "crc64":
            return _Crc64()
        return None if self.name == "none" else hashlib.new(self.name, usedforsecurity=False)

    def sent(self, digest: bytes | None) -> dict[str, str]:
        """The parameters of a request that sends contents with this digest."""
        if digest is None:
            return {}
        return {self.field or "ContentMD5": base64.b64encode(digest).decode()}

    def of_whole(self, parts: Sequence[_Digested], whole: bytes | None) -> str | None:
        """The checksum that the server must return for an object in parts; ``None`` if it returns none."""
        if self.name == "sha256":
            known = [part.digest or b"" for part in parts]
            combined = hashlib.sha256(b"".join(known)).digest()
            return f"{base64.b64encode(combined).decode()}-{len(known)}"
        return base64.b64encode(whole).decode() if self.name == "crc64" and whole else None


class _Crc64:
    def __init__(self) -> None:
        from awscrt.checksums import crc64nvme

        self._add, self._value = crc64nvme, 0

    def update(self, data: bytes | memoryview) -> None:
        self._value = self._add(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(8, "big")
