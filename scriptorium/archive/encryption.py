"""Encryption of archives with age, as a stream; the plain ``age`` program decrypts them.

``EncryptedFile`` is written to, ``Decrypted`` is read from. ``pyrage`` itself calls the reader and the writer, so each
class has a thread. It wraps our errors in errors of its own: the original is kept here, and raised.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from scriptorium.archive.written import MIB, EndsEarly, Written
from scriptorium.errors import DamageFound, KeyMissing, SettingsError
from scriptorium.fs.descriptors import write_whole

MAGIC = b"age-encryption.org/v1"
NO_KEY = "this host has no key"

_CHUNKS = 8
_CHUNK = 256 << 10
_NOTHING = memoryview(b"")
_HINT = "use another copy of this backup"
_NO_MATCH = "No matching keys"
_OTHER_KEY = "give the file of the right key ('identity' in the store's table 'age', --identity of the rescue)"


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys with which an archive may be opened. ``identities``: private keys; ``recipients``: the public keys for
    which it was encrypted, if they are known; ``trouble``: why there are no identities."""

    identities: tuple[str, ...] = field(default=(), repr=False)
    recipients: tuple[str, ...] = ()
    trouble: str = NO_KEY

    @property
    def fit(self) -> bool:
        """Whether one of the identities is that of a recipient; without known recipients: whether there is one."""
        return bool(self.identities) and (
            not self.recipients or not set(public(self.identities)).isdisjoint(self.recipients)
        )

    def require(self, on: str = "") -> None:
        """``KeyMissing`` if the archive cannot be opened with these."""
        if self.fit:
            return
        to = f" for {', '.join(self.recipients)}" if self.recipients else ""
        trouble = f"the key here is that of {', '.join(public(self.identities))}" if self.identities else self.trouble
        raise KeyMissing(
            f"the archive is encrypted{to}, and {trouble}",
            on=on,
            hint=_OTHER_KEY,
        )


def public(identities: Sequence[str]) -> tuple[str, ...]:
    """The recipients that belong to private keys. ``SettingsError`` for what is no key; it does not show the key."""
    if not identities:
        return ()
    import pyrage

    try:
        return tuple(str(pyrage.x25519.Identity.from_str(one).to_public()) for one in identities)
    except pyrage.IdentityError as error:
        raise SettingsError(f"this is no private key of age ({error})") from None


def check_recipients(recipients: Sequence[str]) -> None:
    """``SettingsError`` for a recipient with a mistyped letter."""
    _parsed(recipients)


def _parsed(recipients: Sequence[str]) -> list[object]:
    import pyrage

    parsed: list[object] = []
    for one in recipients:
        try:
            parsed.append(pyrage.x25519.Recipient.from_str(one))
        except pyrage.RecipientError as error:
            raise SettingsError(
                f"this is no recipient of age ({error})", on=one, hint="age-keygen -y shows it"
            ) from None
    return parsed


class EncryptedFile:
    """A file into which everything is written encrypted. Its size and hash are those of the encrypted bytes."""

    def __init__(self, descriptor: int, recipients: Sequence[str]) -> None:
        self._descriptor = descriptor
        self._recipients = _parsed(recipients)
        self._digest = hashlib.sha256()
        self._bytes = 0
        self._queue: queue.Queue[bytes | None] = queue.Queue(_CHUNKS)
        self._failure: BaseException | None = None
        self._chunk = _NOTHING
        self._ended = False
        self._thread = threading.Thread(target=self._encrypt, name="encrypt", daemon=True)
        self._thread.start()

    def put(self, data: bytes | memoryview) -> None:
        self._raise_failure()
        if len(data):
            self._queue.put(bytes(data))  # the caller fills its block again

    def finish(self) -> Written:
        self.close()
        self._raise_failure()
        return Written(self._bytes, self._digest.hexdigest())

    def close(self) -> None:
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _encrypt(self) -> None:
        import pyrage

        try:
            pyrage.encrypt_io(_In(self._give), _Out(self._take), self._recipients)
        except BaseException as error:  # noqa: BLE001 -- raised in the caller's thread
            self._failure = self._failure or error
        while not self._ended:  # the caller must not wait for a place in the queue
            self._ended = self._queue.get() is None

    def _give(self, count: int) -> bytes:
        """What pyrage reads: what was put."""
        if not self._chunk and not self._ended:
            chunk = self._queue.get()
            self._ended = chunk is None
            self._chunk = memoryview(chunk or b"")
        part = self._chunk[:count]
        self._chunk = self._chunk[len(part) :]
        return bytes(part)

    def _take(self, data: bytes) -> int:
        """What pyrage writes: the encrypted bytes. The returned number must be that of the given bytes."""
        try:
            self._digest.update(data)
            write_whole(self._descriptor, data)
        except BaseException as error:
            self._failure = error
            raise
        self._bytes += len(data)
        return len(data)


class Source(Protocol):
    """Bytes that can be looked at before they are read."""

    def peek(self, count: int) -> bytes: ...

    def read(self, count: int = MIB) -> bytes: ...


class _Stopped(Exception):
    """Nobody reads on."""


class Decrypted:
    """The bytes inside an encrypted source. ``DamageFound`` and ``KeyMissing`` come when they are read.

    Bytes come before the end of the source was seen: whoever keeps them must wait for the end.
    """

    def __init__(self, source: Source, keys: Keys) -> None:
        keys.require()
        self._source = source
        self._keys = keys
        self._queue: queue.Queue[bytes | None] = queue.Queue(_CHUNKS)
        self._failure: BaseException | None = None
        self._stopped = self._ended = self._over = False
        self._ahead = b""
        self._encrypted = _NOTHING
        self._taken = 0  # encrypted bytes that were read
        self._gathered = bytearray()
        self._thread = threading.Thread(target=self._decrypt, name="decrypt", daemon=True)
        self._thread.start()

    def peek(self, count: int) -> bytes:
        while len(self._ahead) < count and (more := self._next()):
            self._ahead += more
        return self._ahead[:count]

    def read(self, count: int = MIB) -> bytes:
        """Up to ``count`` bytes; nothing at the end."""
        data = self._ahead or self._next()
        self._ahead = data[count:]
        return data[:count]

    def stop(self) -> None:
        """End the thread: the source is not read any more."""
        self._stopped = True
        while self._thread.is_alive():
            with contextlib.suppress(queue.Empty):
                while True:
                    self._queue.get_nowait()
            self._thread.join(0.005)

    def _next(self) -> bytes:
        if self._ended:
            return b""
        chunk = self._queue.get()
        if chunk is not None:
            return chunk
        self._ended = True
        if self._failure is not None:
            raise self._failure
        return b""

    def _decrypt(self) -> None:
        import pyrage

        try:
            identities = [pyrage.x25519.Identity.from_str(one) for one in self._keys.identities]
            pyrage.decrypt_io(_In(self._give), _Out(self._take), identities)
            self._hand_over()
        except BaseException as error:  # noqa: BLE001 -- raised in the reader's thread
            self._failure = self._failure or self._meaning(error)
        finally:
            self._queue.put(None)

    def _meaning(self, error: BaseException) -> BaseException:
        """What an error of pyrage means. Its kinds do not say: they are ``DecryptError`` and plain ``OSError``."""
        if _NO_MATCH in str(error) and not self._keys.recipients:
            return KeyMissing("the archive is encrypted for somebody else", hint=_OTHER_KEY)
        kind = EndsEarly if self._over else DamageFound
        return kind(f"the archive cannot be decrypted, near byte {self._taken} ({error})", hint=_HINT)

    def _give(self, count: int) -> bytes:
        """What pyrage reads: some of the encrypted bytes."""
        if not self._encrypted:
            try:
                self._encrypted = memoryview(self._source.read())
            except BaseException as error:
                self._failure = error
                raise
            self._over = not self._encrypted
            self._taken += len(self._encrypted)
        part = self._encrypted[:count]
        self._encrypted = self._encrypted[len(part) :]
        return bytes(part)

    def _take(self, data: bytes) -> int:
        """What pyrage writes: some of the bytes inside. The returned number must be that of the given bytes."""
        if self._stopped:
            raise _Stopped
        self._gathered += data
        if len(self._gathered) >= _CHUNK:
            self._hand_over()
        return len(data)

    def _hand_over(self) -> None:
        if self._gathered:
            self._queue.put(bytes(self._gathered))
            self._gathered.clear()


class _In:
    """Something that pyrage can read."""

    def __init__(self, give: Callable[[int], bytes]) -> None:
        self.read = give


class _Out:
    """Something that pyrage can write to."""

    def __init__(self, take: Callable[[bytes], int]) -> None:
        self.write = take

    def flush(self) -> None:
        """There is nothing to be flushed."""
