"""Encryption of archives: the plain ``age`` program opens them; keys, damage and other errors."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from age_keys import new_key

from scriptorium.archive.encryption import Decrypted, EncryptedFile, Keys
from scriptorium.archive.input_stream import InputStream
from scriptorium.archive.written import EndsEarly
from scriptorium.errors import DamageFound, KeyMissing, SettingsError, StoreUnavailable

NOISE = os.urandom(300_000)
needs_age = pytest.mark.skipif(shutil.which("age") is None, reason="no age here: apt-get install age")


def secret(file: Path) -> str:
    return next(line for line in file.read_text().splitlines() if line.startswith("AGE-"))


@pytest.fixture
def key(tmp_path: Path) -> Keys:
    recipient = new_key(tmp_path / "key.txt")
    return Keys((secret(tmp_path / "key.txt"),), (recipient,))


def encrypted(target: Path, data: bytes, *recipients: str) -> bytes:
    with target.open("wb") as file:
        out = EncryptedFile(file.fileno(), recipients)
        for start in range(0, len(data), 70_001):
            out.put(memoryview(data)[start : start + 70_001])
        written = out.finish()
    stored = target.read_bytes()
    assert (written.bytes, written.sha256) == (len(stored), hashlib.sha256(stored).hexdigest())
    return stored


class Source:
    """Encrypted bytes, and the error that is raised after them."""

    def __init__(self, data: bytes, failure: BaseException | None = None) -> None:
        self._stream = io.BytesIO(data)
        self._failure = failure

    def peek(self, count: int) -> bytes:
        raise AssertionError

    def read(self, count: int = 50_000) -> bytes:
        data = self._stream.read(min(count, 50_000))
        if not data and self._failure is not None:
            raise self._failure
        return data


def decrypted(data: bytes, keys: Keys, failure: BaseException | None = None) -> bytes:
    opened = Decrypted(Source(data, failure), keys)
    try:
        return b"".join(iter(opened.read, b""))
    finally:
        opened.stop()


@pytest.mark.parametrize("size", [0, 1, 65536, len(NOISE)])
def test_encrypted_data_is_decrypted(tmp_path: Path, key: Keys, size: int) -> None:
    assert decrypted(encrypted(tmp_path / "it", NOISE[:size], *key.recipients), key) == NOISE[:size]


@needs_age
def test_the_plain_program_reads_ours_and_we_read_its(tmp_path: Path, key: Keys) -> None:
    encrypted(tmp_path / "ours", NOISE, *key.recipients)
    read = subprocess.run(["age", "-d", "-i", tmp_path / "key.txt", tmp_path / "ours"], capture_output=True, check=True)
    assert read.stdout == NOISE
    theirs = subprocess.run(["age", "-r", key.recipients[0]], input=NOISE, capture_output=True, check=True).stdout
    assert decrypted(theirs, key) == NOISE


def test_each_of_several_recipients_opens_it(tmp_path: Path) -> None:
    recipients = tuple(new_key(tmp_path / name) for name in ("a", "b", "c"))
    data = encrypted(tmp_path / "it", NOISE, *recipients)
    for name in ("a", "b", "c"):
        assert decrypted(data, Keys((secret(tmp_path / name),), recipients)) == NOISE


def test_a_wrong_and_a_missing_key_name_the_recipients(tmp_path: Path, key: Keys) -> None:
    other = new_key(tmp_path / "other")
    data = encrypted(tmp_path / "it", NOISE, *key.recipients)
    for identities, reason in (((), "no key"), ((secret(tmp_path / "other"),), other)):
        with pytest.raises(KeyMissing) as found:
            decrypted(data, Keys(identities, key.recipients))
        assert key.recipients[0] in found.value.what and reason in found.value.what
        assert "AGE-SECRET" not in str(found.value) + repr(Keys(identities))
    with pytest.raises(KeyMissing):  # the recipients are not known before: they are read from the bytes
        decrypted(data, Keys((secret(tmp_path / "other"),)))


def test_damage_is_damage_whatever_pyrage_calls_it(tmp_path: Path, key: Keys) -> None:
    data = encrypted(tmp_path / "it", NOISE, *key.recipients)
    for at in (30, 80, 120, 190, 220, 1000, 150_000, len(data) - 1):  # from 30 on: the header, its stanza, its MAC
        broken = bytearray(data)
        broken[at] ^= 1
        with pytest.raises(DamageFound):
            decrypted(bytes(broken), key)
    for cut in (30, 150, 250, 65_536, len(data) - 1):
        with pytest.raises(EndsEarly):
            decrypted(data[:cut], key)
    with pytest.raises(DamageFound):
        decrypted(data + b"more", key)


def test_an_error_of_the_store_stays_that_error(tmp_path: Path, key: Keys) -> None:
    data = encrypted(tmp_path / "it", NOISE, *key.recipients)
    for cut in (10, 200_000):
        with pytest.raises(StoreUnavailable, match="gone"):
            decrypted(data[:cut], key, StoreUnavailable("gone"))


def test_an_error_of_the_disk_stays_that_error(key: Keys) -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        out = EncryptedFile(full.fileno(), key.recipients)
        with pytest.raises(OSError, match="No space left"):
            for _ in range(100):
                out.put(NOISE)
        out.close()


def test_who_stops_reading_leaves_no_thread(tmp_path: Path, key: Keys) -> None:
    before = threading.active_count()
    data = encrypted(tmp_path / "it", NOISE * 20, *key.recipients)
    opened = Decrypted(Source(data), key)
    assert opened.read(10) == NOISE[:10]
    opened.stop()
    with InputStream(io.BytesIO(data), keys=key) as stream, pytest.raises(DamageFound, match="not an archive"):
        stream.some(10)
    assert threading.active_count() == before


def test_a_mistyped_recipient_is_a_wrong_setting(tmp_path: Path, key: Keys) -> None:
    wrong = key.recipients[0][:-1] + ("q" if key.recipients[0][-1] != "q" else "p")
    with pytest.raises(SettingsError, match="no recipient"), (tmp_path / "it").open("wb") as file:
        EncryptedFile(file.fileno(), [wrong])
