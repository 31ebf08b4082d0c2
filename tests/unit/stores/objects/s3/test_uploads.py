"""Large files in parts: checked by the server, continued after an interruption; two hosts with one prefix."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prepared_backup import LATER, folder_of_everything, prepared
from s3_relay import Answer, Relay, Request, error
from s3_server import S3Server
from store_fixtures import KEY, LARGE, names, s3_place, same, sha256

from scriptorium.errors import DamageFound, LibraryBusy, ScriptoriumError, StoreUnavailable
from scriptorium.stores.objects.archive_package import ArchivePackage
from scriptorium.stores.objects.s3 import S3Store
from scriptorium.stores.objects.s3.multipart import part_size
from scriptorium.stores.objects.s3.objects import S3Objects
from scriptorium.stores.objects.s3.place import MEBIBYTE

SLOW = pytest.mark.slow


def parts_sent(relay: Relay) -> int:
    return relay.count("PUT", "partNumber=")


# --- parts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checksums", ["sha256", "crc64", *(pytest.param(one, marks=SLOW) for one in ("md5", "none"))])
def test_a_large_file_goes_in_parts_that_the_server_checks(
    made: Callable[..., S3Objects], relay: Relay, large: Path, checksums: str
) -> None:
    store = made(checksums=checksums)
    arrived: list[int] = []
    store.put(KEY, large, sha256=sha256(large), advance=arrived.append)
    assert same(store, KEY, large) and names(store) == [KEY] and list(store.leftovers()) == []
    assert parts_sent(relay) == 3 == len(arrived) and sum(arrived) == large.stat().st_size
    asked = {name.lower() for request in relay.seen for name in request.headers if "partNumber=" in request.path}
    wanted = {"sha256": "x-amz-checksum-sha256", "crc64": "x-amz-checksum-crc64nvme", "md5": "content-md5"}
    assert checksums == "none" or wanted[checksums] in asked


@pytest.mark.parametrize(
    "checksums, size",
    [
        ("sha256", 1000),
        ("sha256", LARGE),
        *(pytest.param(n, s, marks=pytest.mark.slow) for n in ("crc64", "md5") for s in (1000, LARGE)),
    ],
)
def test_what_arrives_otherwise_is_refused_by_the_server(
    made: Callable[..., S3Objects], relay: Relay, tmp_path: Path, checksums: str, size: int, monkeypatch: Any
) -> None:
    """A bit is changed on the way, after the signature: our own hash of the file is right."""
    store = made(checksums=checksums)
    file = tmp_path / "file.tar"
    file.write_bytes(bytes(size))
    asked = relay._asked

    def damaging(request: Request) -> Answer:
        if request.method == "PUT":
            request = replace(request, body=b"\1" + request.body[1:])
        return asked(request)

    monkeypatch.setattr(relay, "_asked", damaging)
    with pytest.raises(ScriptoriumError) as caught:
        store.put(KEY, file, sha256=sha256(file))
    assert names(store) == []
    if checksums == "sha256":  # of the others the contents are signed, too, and that is what the server sees first
        assert isinstance(caught.value, DamageFound) and "what arrived" in caught.value.what


def test_a_large_file_that_changed_on_its_way_is_not_stored(made: Callable[..., S3Objects], large: Path) -> None:
    store = made()
    with pytest.raises(DamageFound, match="changed on its way"):
        store.put(KEY, large, sha256=hashlib.sha256(b"other").hexdigest())
    assert names(store) == [] and list(store.leftovers()) == []


@pytest.mark.parametrize("checksums", ["sha256", pytest.param("md5", marks=SLOW)])
def test_an_upload_that_broke_goes_on_with_what_is_missing(
    made: Callable[..., S3Objects], relay: Relay, large: Path, checksums: str
) -> None:
    store = made(checksums=checksums, parallel=1, attempts=1)
    relay.trouble = lambda request: error(500, "InternalError") if "partNumber=2" in request.path else None
    with pytest.raises(StoreUnavailable):
        store.put(KEY, large, sha256=sha256(large))
    assert names(store) == [] and len(list(store.leftovers())) == 1
    relay.trouble = lambda _: None
    relay.seen.clear()
    arrived: list[int] = []
    store.put(KEY, large, sha256=sha256(large), advance=arrived.append)
    assert sum(arrived) == large.stat().st_size, "what is there already counts"
    assert relay.count("PUT", "partNumber=2") == 1 and parts_sent(relay) <= 2  # the third may have been under way
    assert same(store, KEY, large) and list(store.leftovers()) == []


def test_an_upload_of_another_file_is_not_gone_on_with(
    made: Callable[..., S3Objects], relay: Relay, large: Path
) -> None:
    store = made(parallel=1, attempts=1)
    relay.trouble = lambda request: error(500, "InternalError") if "partNumber=3" in request.path else None
    with pytest.raises(StoreUnavailable):
        store.put(KEY, large)
    relay.trouble = lambda _: None
    relay.seen.clear()
    other = large.with_name("other.tar")
    other.write_bytes(large.read_bytes()[:100] + os.urandom(100) + large.read_bytes()[200 : 8 * MEBIBYTE])
    store.put(KEY, other, sha256=sha256(other))
    assert relay.count("PUT", "partNumber=1") == 1
    assert same(store, KEY, other)


def test_a_server_that_dies_in_the_middle_of_an_upload_goes_on_where_it_was(
    made: Callable[..., S3Objects], server: S3Server, relay: Relay, large: Path
) -> None:
    store = made(parallel=1, attempts=1)

    def killing(request: Request) -> None:
        if "partNumber=2" in request.path and server.child is not None:
            server.kill()

    relay.trouble = killing
    with pytest.raises(StoreUnavailable) as caught:
        store.put(KEY, large, sha256=sha256(large))
    assert "does not answer" in caught.value.what and caught.value.hint
    relay.trouble = lambda _: None
    server.start()
    relay.seen.clear()
    store.put(KEY, large, sha256=sha256(large))
    assert relay.count("PUT", "partNumber=2") == 1 and parts_sent(relay) <= 2 and same(store, KEY, large)


def test_the_lost_answer_to_the_last_request_is_no_failure(
    made: Callable[..., S3Objects], relay: Relay, large: Path
) -> None:
    store = replace(made(), owner="0123456789ab")
    lost: list[Request] = []

    def losing(request: Request, answer: Answer) -> Answer:
        if request.method == "POST" and "uploadId=" in request.path and not lost:
            lost.append(request)
            return error(500, "InternalError")
        return answer

    relay.after = losing
    store.put(KEY, large, sha256=sha256(large))
    assert lost and same(store, KEY, large)


def test_parts_grow_with_the_file_so_that_there_are_never_too_many() -> None:
    assert part_size(LARGE, 5) == 5 * MEBIBYTE
    assert part_size(10_000 * 16 * MEBIBYTE, 16) == 16 * MEBIBYTE
    assert part_size(10_000 * 16 * MEBIBYTE + 1, 16) == 17 * MEBIBYTE


def test_unfinished_uploads_are_leftovers_of_their_library(
    made: Callable[..., S3Objects], relay: Relay, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = made(attempts=1)
    relay.trouble = lambda request: error(503, "SlowDown") if "partNumber=2" in request.path else None
    with pytest.raises(StoreUnavailable):
        store.put(KEY, large)
    (left,) = store.leftovers()
    assert left.key.startswith("bibliotheca/.full_20260102_030405.tar.gz.") and left.key.endswith(".partial")
    assert abs(left.modified - datetime.now(UTC)) < timedelta(minutes=1)
    later = datetime.now(UTC) + timedelta(hours=30)
    parts = [{"LastModified": later}]
    monkeypatch.setattr(S3Objects, "parts", lambda *_: iter(parts))
    assert [one.modified for one in store.leftovers()] == [later], "it goes on as long as parts arrive"
    small = large.with_name("small.tar")
    small.write_bytes(b"x")
    store.put(KEY, small)
    assert list(store.leftovers()) == [replace(left, modified=later)], "it may be another host's"
    store.discard(left)
    assert list(store.leftovers()) == []


# --- two hosts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1000, LARGE])
def test_two_hosts_do_not_overwrite_each_other(made: Callable[..., S3Objects], tmp_path: Path, size: int) -> None:
    mine, theirs = (replace(made(), owner=owner) for owner in ("0123456789ab", "ba9876543210"))
    file, other = tmp_path / "a.tar", tmp_path / "b.tar"
    file.write_bytes(os.urandom(size))
    other.write_bytes(os.urandom(size))
    mine.put(KEY, file)
    with pytest.raises(LibraryBusy) as caught:
        theirs.put(KEY, other)
    assert caught.value.exit_code == 4 and "prefix" in caught.value.hint
    assert same(mine, KEY, file) and list(mine.leftovers()) == []
    mine.put(KEY, file)  # a repeat of our own
    mine.put(KEY, other)
    assert same(mine, KEY, other)


def test_the_upload_of_another_host_that_goes_on_is_left_alone(
    made: Callable[..., S3Objects], relay: Relay, tmp_path: Path
) -> None:
    """Both write the same name at the same time: one succeeds, with its own bytes; the other gets an error."""
    mine, theirs = (replace(made(parallel=1), owner=owner) for owner in ("0123456789ab", "ba9876543210"))
    file, other = tmp_path / "a.tar", tmp_path / "b.tar"
    file.write_bytes(os.urandom(LARGE))
    other.write_bytes(os.urandom(LARGE))
    between: list[Request] = []

    def meanwhile(request: Request) -> None:
        if "partNumber=2" in request.path and not between:
            between.append(request)
            theirs.put(KEY, other, sha256=sha256(other))

    relay.trouble = meanwhile
    with pytest.raises(LibraryBusy):
        mine.put(KEY, file, sha256=sha256(file))
    assert same(theirs, KEY, other) and theirs.head(KEY)["Metadata"]["scriptorium-id"] == theirs.owner
    assert list(mine.leftovers()) == []


@pytest.mark.parametrize("sent", [2, 3])
def test_archives_that_begin_with_the_same_bytes_are_distinguished(
    made: Callable[..., S3Objects], relay: Relay, tmp_path: Path, sent: int
) -> None:
    """The other host begins while the sent parts are equal to its own, and when they differ."""
    mine, theirs = (replace(made(parallel=1), owner=owner) for owner in ("0123456789ab", "ba9876543210"))
    file, other = tmp_path / "a.tar", tmp_path / "b.tar"
    begin = os.urandom(5 * MEBIBYTE)
    file.write_bytes(begin + os.urandom(LARGE - len(begin)))
    other.write_bytes(begin + os.urandom(LARGE - len(begin)))
    between: list[str] = []

    def meanwhile(request: Request) -> None:
        if f"partNumber={sent}" in request.path and not between:
            between.append("asked")
            try:
                theirs.put(KEY, other, sha256=sha256(other))
                between.append("stored")
            except StoreUnavailable:
                between.append("unavailable")

    relay.trouble = meanwhile
    with contextlib.suppress(LibraryBusy, StoreUnavailable):
        mine.put(KEY, file, sha256=sha256(file))
        between.append("mine stored")
    relay.trouble = lambda _: None
    found = mine.head(KEY)
    if found is None:
        assert between == ["asked", "unavailable"]
    else:
        whose = file if found["Metadata"]["scriptorium-id"] == mine.owner else other
        assert same(mine, KEY, whose) and found["Metadata"]["sha256"] == sha256(whose)


def test_the_archive_of_another_host_is_not_removed(server: S3Server, tmp_path: Path) -> None:
    """The other host has put its archive, and not yet its manifest."""
    store = S3Store(**s3_place(server))
    data = folder_of_everything(tmp_path / "data")
    (one,), (other,) = (prepared(data, store).packages.values() for _ in range(2))
    assert isinstance(one, ArchivePackage)
    store.objects_for(one.manifest).put(f"lib/{one.file.name}", one.file, sha256=one.record.sha256)
    with pytest.raises(LibraryBusy):
        store.put(other)
    assert names(store.objects) == [f"lib/{one.file.name}"]
    assert store.verify(store.put(one).key).sound


def test_what_has_arrived_is_not_sent_again_for_its_manifest(server: S3Server, relay: Relay, tmp_path: Path) -> None:
    store = S3Store(**(s3_place(server, relay.url) | {"attempts": 1, "part_size": 5}))
    data = folder_of_everything(tmp_path / "data")
    (data / "large").write_bytes(os.urandom(LARGE))
    (package,) = prepared(data, store).packages.values()
    relay.trouble = lambda request: (
        error(503, "SlowDown") if request.method == "PUT" and ".json" in request.path else None
    )
    with pytest.raises(StoreUnavailable):
        store.put(package)
    relay.trouble = lambda _: None
    relay.seen.clear()
    assert store.verify(store.put(package).key).sound
    assert parts_sent(relay) == 0


def test_what_others_keep_below_the_prefix_is_left_alone(server: S3Server) -> None:
    store = S3Store(**s3_place(server))
    film, archive = (store.key(name) for name in ("films/movie.mkv", "photos/full_20200101_000000.tar.gz"))
    server.client.create_multipart_upload(Bucket=store.bucket, Key=film)
    server.client.put_object(Bucket=store.bucket, Key=archive, Body=b"theirs")
    assert store.sweep(datetime.now(UTC) + LATER) == ()
    assert server.client.list_multipart_uploads(Bucket=store.bucket, Prefix=store.prefix)["Uploads"]
    assert names(store.objects) == ["photos/full_20200101_000000.tar.gz"]


def test_a_key_that_may_not_list_uploads_stores_nevertheless(
    made: Callable[..., S3Objects], relay: Relay, large: Path
) -> None:
    denied = error(403, "AccessDenied")
    relay.trouble = lambda request: denied if request.method == "GET" and "uploads" in request.path else None
    store = replace(made(), owner="0123456789ab")
    small = large.with_name("small.tar")
    small.write_bytes(b"x")
    store.put(KEY, small)
    store.put(KEY, large)
    assert same(store, KEY, large)


def test_a_server_without_conditions_is_asked_without_them(
    made: Callable[..., S3Objects], relay: Relay, tmp_path: Path
) -> None:
    def old(request: Request) -> Answer | None:
        conditions = any(name.lower() == "if-none-match" for name in request.headers)
        return error(501, "NotImplemented", "a header is not implemented") if conditions else None

    relay.trouble = old
    store = replace(made(), owner="0123456789ab")
    file = tmp_path / "a.tar"
    file.write_bytes(b"x")
    store.put(KEY, file)
    assert store.read_bytes(KEY) == b"x"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(made: Callable[..., S3Objects], server: S3Server, tmp_path: Path) -> None:
    """A process of its own, so that only this is measured: boto3 and all, 400 MB there and back."""
    file = tmp_path / "large.tar"
    with file.open("wb") as target:
        target.truncate(400 << 20)
    place = made(endpoint_url=server.url, part_size=16).place.model_dump_json()
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from scriptorium.stores.objects.s3.objects import S3Objects\n"
        "from scriptorium.stores.objects.s3.place import S3Place\n"
        "store = S3Objects(S3Place.model_validate_json(sys.argv[1]))\n"
        "store.put('lib/large.tar', Path(sys.argv[2]))\n"
        "with store.open('lib/large.tar') as stream:\n"
        "    while stream.read(1 << 20):\n"
        "        pass\n"
        "status = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
        "print(int(status['VmHWM'].split()[0]) // 1024)\n"
    )
    line = [sys.executable, "-c", program, place, str(file)]
    assert int(subprocess.run(line, capture_output=True, text=True, check=True).stdout) < 200
