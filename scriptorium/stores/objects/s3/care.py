"""A bucket made, and examined: what its server really does with what the settings ask for."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from scriptorium.errors import Protected, ScriptoriumError, StoreRefused
from scriptorium.stores.base import Lock
from scriptorium.stores.care import Finding
from scriptorium.stores.objects.s3 import troubles
from scriptorium.stores.objects.s3.checksums import Kind

if TYPE_CHECKING:
    from scriptorium.stores.objects.s3.objects import S3Objects

PROBES = ".scriptorium-probe/"  # below the prefix; no object of a backup has such a name
_PROBE_LOCK = timedelta(seconds=20)


def initialize(objects: S3Objects) -> str:
    """Make the bucket if it does not exist, with Object Lock if the settings ask for locks."""
    place = objects.place
    try:
        objects.prepare()
        return f"the bucket {place.bucket} is there"
    except StoreRefused as error:
        if not troubles.is_no_bucket(error):
            raise
    options: dict[str, Any] = {"Bucket": place.bucket, "ObjectLockEnabledForBucket": place.lock is not None}
    region = objects.client.meta.region_name
    if not place.endpoint_url and region != "us-east-1":
        options["CreateBucketConfiguration"] = {"LocationConstraint": region}
    with objects.trouble():
        objects.client.create_bucket(**options)
    return f"the bucket {place.bucket} was made{', with Object Lock' if place.lock else ''}"


def examine(objects: S3Objects, *, try_delete: bool) -> Iterator[Finding]:
    """Which of locks, checksums and conditional writes the server has."""
    yield from _lock_of_bucket(objects)
    yield from _checksums(objects)
    yield from _conditions(objects)
    unfinished = sum(1 for _ in objects.leftovers())
    if unfinished:
        yield Finding("unfinished uploads", str(unfinished), None, "cleanup removes them after a day")
    if try_delete:
        yield from _removal(objects)


def _lock_of_bucket(objects: S3Objects) -> Iterator[Finding]:
    from botocore.exceptions import ClientError

    wanted = objects.place.lock
    with objects.trouble():
        try:
            configured = objects.client.get_object_lock_configuration(Bucket=objects.place.bucket)
            found: Any = configured.get("ObjectLockConfiguration", {})
        except ClientError as error:
            if troubles.status_of(error) >= 500 and troubles.status_of(error) != 501:
                raise
            found = {}
    able = found.get("ObjectLockEnabled") == "Enabled"
    rule = found.get("Rule", {}).get("DefaultRetention", {})
    default = f", by default {rule['Mode'].lower()} for {rule.get('Days') or rule.get('Years')} " if rule else ""
    default += ("days" if rule.get("Days") else "years") if rule else ""
    if wanted is None:
        yield Finding("lock", f"the bucket can lock{default}" if able else "the bucket cannot lock", None)
    elif able:
        yield Finding("lock", f"the bucket can lock{default}; asked for: {wanted.mode}")
    else:
        yield Finding(
            "lock",
            "the bucket does not lock, or this key may not see it",
            False,
            "Object Lock is switched on when a bucket is made: scriptorium stores init makes one so",
        )


def _checksums(objects: S3Objects) -> Iterator[Finding]:
    """Put something with a checksum that is wrong: the server must refuse it."""
    kind = Kind(objects.place.checksums)
    if kind.name == "none":
        yield Finding("checksums", "the server checks nothing, as the settings say", None)
        return
    wrong = kind.begin()
    wrong.update(b"something else")
    key = _probe_key("checksum")
    try:
        with objects.trouble(key):
            objects.client.put_object(**objects.at(key), Body=b"probe", **kind.sent(wrong.digest()))
    except ScriptoriumError as error:
        if troubles.is_damage(error):
            yield Finding("checksums", f"the server refuses what does not match its {kind.name}")
            return
        raise
    _forget(objects, key)
    yield Finding(
        "checksums",
        f"the server takes what does not match its {kind.name}",
        False,
        'another of checksums = "sha256", "crc64", "md5" may be checked; verify reads everything back in any case',
    )


def _conditions(objects: S3Objects) -> Iterator[Finding]:
    """Write twice on the condition that no object is there: the second write must be refused."""
    from botocore.exceptions import ClientError

    key = _probe_key("condition")
    with objects.trouble(key):
        objects.client.put_object(**objects.at(key), Body=b"first")
        try:
            objects.client.put_object(**objects.at(key), Body=b"second", IfNoneMatch="*")
            has = False
        except ClientError as error:
            has = troubles.code_of(error) in troubles.CONFLICT or troubles.status_of(error) == 412
    _forget(objects, key)
    if has:
        yield Finding("conditional writes", "the server has them: two hosts cannot overwrite each other")
    else:
        yield Finding(
            "conditional writes",
            "the server does not have them",
            None,
            "give each host a prefix of its own",
        )


def _removal(objects: S3Objects) -> Iterator[Finding]:
    """Put an object as backups are put, and try to remove it."""
    key, lock = _probe_key("removal"), objects.place.lock
    until = datetime.now(UTC).replace(microsecond=0) + _PROBE_LOCK
    options = objects.place.stored_as() | _locked_as(objects, until)
    kind = Kind("md5" if objects.place.checksums == "none" else objects.place.checksums)
    digest = kind.begin()
    digest.update(b"probe")
    with objects.trouble(key):
        put = objects.client.put_object(**objects.at(key), Body=b"probe", **options, **kind.sent(digest.digest()))
    version = str(put.get("VersionId", ""))
    refused = _attempt(objects, key, version)
    if lock is None:
        found = f"what was put could not be removed: {refused}" if refused else "what was put can be removed"
        yield Finding("removal", found, None, "" if refused else "a lock keeps it: lock = { mode = …, days = … }")
        return
    lock_text = str(Lock(lock.mode, until))
    if not refused:
        yield Finding(
            "removal", f"a locked object was removed ({lock_text})", False, "the server does not keep its locks"
        )
        return
    yield Finding("removal", f"the server refuses to remove a locked object ({lock_text})")
    if lock.mode == "governance":
        bypassed = _attempt(objects, key, version, BypassGovernanceRetention=True) is None
        yield Finding(
            "bypass",
            "this key may lift the lock" if bypassed else "this key may not lift the lock",
            None if bypassed else True,
            "take s3:BypassGovernanceRetention from it, or use compliance: who has the key can remove every backup"
            if bypassed
            else "",
        )


def _locked_as(objects: S3Objects, until: datetime) -> dict[str, Any]:
    lock = objects.place.lock
    return {"ObjectLockMode": lock.mode.upper(), "ObjectLockRetainUntilDate": until} if lock else {}


def _attempt(objects: S3Objects, key: str, version: str, **more: bool) -> str | None:
    """Try to remove a version; ``None`` if it is gone, else the server's message."""
    from botocore.exceptions import ClientError

    with objects.trouble(key):
        try:
            which = {"VersionId": version} if version else {}
            objects.client.delete_object(**objects.at(key), **which, **more)
            return None
        except ClientError as error:
            if troubles.status_of(error) >= 500:
                raise
            return str(error.response.get("Error", {}).get("Message") or troubles.code_of(error))


def sweep_probes(objects: S3Objects, now: datetime) -> None:
    """Remove the probes that were locked when they were examined."""
    from scriptorium.stores.objects.s3 import versions

    with objects.trouble():
        if not versions.is_versioned(objects):
            return
        for one in list(versions.versions_of(objects, PROBES)):
            if now - one.modified > _PROBE_LOCK:
                _attempt(objects, one.key, one.id)


def _forget(objects: S3Objects, key: str) -> None:
    from scriptorium.stores.objects.s3 import versions

    with contextlib.suppress(Protected), objects.trouble(key):  # the bucket locks everything: swept later
        versions.delete(objects, key)


def _probe_key(what: str) -> str:
    return f"{PROBES}{what}-{secrets.token_hex(4)}"
