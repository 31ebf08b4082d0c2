"""Reading from a bucket over a bad network; errors that are tried again, and those that are raised at once."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from s3_relay import Answer, Relay, Request, error
from s3_server import S3Server
from store_fixtures import KEY, LARGE, same

from scriptorium.errors import NotFound, StoreRefused, StoreUnavailable
from scriptorium.model import Annotations
from scriptorium.stores.objects.s3 import S3Store
from scriptorium.stores.objects.s3.objects import S3Objects
from scriptorium.stores.objects.s3.place import MEBIBYTE

# --- reading ----------------------------------------------------------------------------------------------------------


def test_reading_continues_where_the_connection_broke(
    made: Callable[..., S3Objects], relay: Relay, large: Path
) -> None:
    store = made()
    store.put(KEY, large)
    cuts = iter([5 * MEBIBYTE, 3 * MEBIBYTE])

    def breaking(request: Request, answer: Answer) -> Answer:
        return replace(answer, cut=next(cuts, None)) if request.method == "GET" else answer

    relay.after = breaking
    relay.seen.clear()
    assert same(store, KEY, large)
    ranges = [request.headers["Range"] for request in relay.seen if "Range" in request.headers]
    assert len(ranges) == 2 and all(int(one.removeprefix("bytes=").rstrip("-")) > 0 for one in ranges)


def test_a_range_is_read_alone(made: Callable[..., S3Objects], relay: Relay, large: Path) -> None:
    store = made()
    store.put(KEY, large)
    data = large.read_bytes()
    with store.open(KEY) as stream:
        assert stream.read(10) == data[:10]
        assert stream.seek(-100, io.SEEK_END) == LARGE - 100
        assert stream.read() == data[-100:]
        stream.seek(2_345_678)
        assert stream.read(50) == data[2_345_678:2_345_728]
    assert any(request.headers.get("Range") == f"bytes={LARGE - 100}-" for request in relay.seen)


def test_a_server_that_sends_everything_is_read_right(
    made: Callable[..., S3Objects], relay: Relay, large: Path, monkeypatch: Any
) -> None:
    """Asked for a range, a poor server or a proxy sends the whole object."""
    store = made()
    store.put(KEY, large)
    asked = relay._asked

    def whole(request: Request) -> Answer:
        headers = {name: value for name, value in request.headers.items() if name.lower() != "range"}
        answer = asked(request)
        if len(headers) == len(request.headers):
            return answer
        kept = {name: value for name, value in answer.headers.items() if name.lower() != "content-range"}
        return Answer(200, kept, large.read_bytes())

    monkeypatch.setattr(relay, "_asked", whole)
    with store.open(KEY) as stream:
        stream.seek(6_000_000)
        assert stream.read(100) == large.read_bytes()[6_000_000:6_000_100]


def test_an_object_that_is_replaced_while_it_is_read_is_noticed(
    made: Callable[..., S3Objects], relay: Relay, large: Path
) -> None:
    store = made()
    store.put(KEY, large)
    with store.open(KEY) as stream:
        stream.read(10)
        store.put_bytes(KEY, b"another")
        stream.seek(MEBIBYTE * 10)
        with pytest.raises(StoreUnavailable, match="replaced or removed while it was read"):
            stream.read(10)


# --- troubles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code, status", [("SlowDown", 503), ("InternalError", 500), ("RequestTimeout", 400)])
def test_what_is_transient_is_tried_again(made: Callable[..., S3Objects], relay: Relay, code: str, status: int) -> None:
    store = made(attempts=3)
    first = iter([error(status, code)])
    relay.trouble = lambda request: next(first, None)
    store.put_bytes(KEY, b"x")
    assert store.read_bytes(KEY) == b"x" and relay.count("PUT") == 2


PERMANENT = {
    "no bucket": ({"bucket": "nowhere"}, StoreRefused, "there is no bucket 'nowhere'", "stores init"),
    "unknown key": ({"profile": "unknown"}, StoreRefused, "does not know this access key", "credentials"),
    "wrong key": ({"profile": "wrong"}, StoreRefused, "the secret key is wrong", "credentials"),
    "no such profile": ({"profile": "nobody"}, StoreRefused, "no credentials", "profile"),
    "a key that may only read": ({"profile": "reader"}, StoreRefused, "denies", "permissions"),
}


@pytest.mark.parametrize("case", PERMANENT)
def test_a_permanent_error_is_raised_at_once_with_a_hint(
    made: Callable[..., S3Objects], relay: Relay, case: str
) -> None:
    settings, kind, what, hint = PERMANENT[case]
    store = made(attempts=5, **settings)
    with pytest.raises(kind) as caught:
        store.put_bytes(KEY, b"x")
    assert what in caught.value.what and hint in caught.value.hint and caught.value.on
    assert relay.count("PUT") <= 1
    if case != "a key that may only read":
        with pytest.raises(kind) as caught:
            list(store.list())
        assert what in caught.value.what
        with pytest.raises(kind):
            store.prepare()


def test_a_wrong_clock_is_named(made: Callable[..., S3Objects], monkeypatch: pytest.MonkeyPatch) -> None:
    import botocore.crt.auth

    wrong = datetime.now(UTC) - timedelta(hours=2)
    monkeypatch.setattr(botocore.crt.auth, "get_current_datetime", lambda **_: wrong)
    with pytest.raises(StoreRefused, match="the clock of this machine is wrong") as caught:
        made().put_bytes(KEY, b"x")
    assert "timedatectl" in caught.value.hint


def test_a_missing_object_is_distinguished_from_a_missing_bucket(made: Callable[..., S3Objects]) -> None:
    with pytest.raises(NotFound):
        made().read_bytes(KEY)
    with pytest.raises(StoreRefused, match="there is no bucket"):
        made(bucket="nowhere").read_bytes(KEY)


def test_a_server_that_lists_late_gets_its_backup(made: Callable[..., S3Objects], relay: Relay, tmp_path: Path) -> None:
    """The listing is older than the put; the object itself can be read."""
    store = S3Store(**made().place.model_dump())
    late: list[Answer] = []

    def stale(request: Request, answer: Answer) -> Answer:
        if request.method == "GET" and "list-type=2" in request.path:
            late.append(answer)
            return late[0]
        return answer

    relay.after = stale
    assert list(store.objects.list()) == []
    store.objects.put_bytes(f"{KEY}.json", b"{}")
    store.annotate(KEY, Annotations(pinned=True))
    assert store.annotations(KEY).pinned
    relay.after = lambda _, answer: answer
    assert store.annotations(KEY).pinned and len(list(store.objects.list())) == 2


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl, which makes the certificate, is not installed")
def test_a_server_with_a_certificate_of_its_own(
    made: Callable[..., S3Objects], server: S3Server, tmp_path: Path
) -> None:
    """Over TLS boto3 signs no contents: the server checks them by their checksum."""
    certificate, large = tmp_path / "server.pem", tmp_path / "large.tar"
    line = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=s3.test"]
    line += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "-", "-out", "-"]
    certificate.write_bytes(subprocess.run(line, capture_output=True, check=True).stdout)
    large.write_bytes(os.urandom(LARGE))
    relay = Relay(server.url, certificate=certificate)
    try:
        store = made(endpoint_url=relay.url, ca_file=certificate)
        store.put(KEY, large)
        assert same(store, KEY, large)
        with pytest.raises(StoreRefused, match="the certificate of the server is not trusted") as caught:
            made(endpoint_url=relay.url).put_bytes(KEY, b"x")
        assert "ca_file" in caught.value.hint
    finally:
        relay.stop()


@pytest.mark.parametrize("size", [1000, LARGE])
def test_what_the_settings_ask_for_goes_with_every_put(
    made: Callable[..., S3Objects], relay: Relay, tmp_path: Path, size: int
) -> None:
    store = made(encryption="AES256", storage_class="STANDARD_IA")
    file = tmp_path / "a.tar"
    file.write_bytes(os.urandom(size))
    store.put(KEY, file)
    assert same(store, KEY, file)
    begun = next(one for one in relay.seen if one.method in ("PUT", "POST") and "partNumber" not in one.path)
    headers = {name.lower(): value for name, value in begun.headers.items()}
    assert headers["x-amz-server-side-encryption"] == "AES256" and headers["x-amz-storage-class"] == "STANDARD_IA"
    assert store.head(KEY)["ServerSideEncryption"] == "AES256"
