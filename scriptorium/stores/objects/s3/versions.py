"""Removing objects from a bucket that keeps versions, and reading their locks.

A plain removal in such a bucket only hides the object: its bytes stay, and cost. So every version is removed by its id.
A locked version stays, and the error names the end of the lock. Nothing here asks the server to lift a lock.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from scriptorium.errors import NotFound, Protected
from scriptorium.stores.base import Lock
from scriptorium.stores.objects.s3 import troubles

if TYPE_CHECKING:
    from scriptorium.stores.objects.s3.objects import S3Objects


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an object, or a marker that hides the older ones."""

    key: str
    id: str
    latest: bool
    marker: bool
    size: int
    modified: datetime


def is_versioned(objects: S3Objects) -> bool:
    """Whether the bucket keeps versions, or kept them earlier. If the key may not ask, the settings decide."""
    from botocore.exceptions import ClientError

    try:
        versioning = objects.client.get_bucket_versioning(Bucket=objects.place.bucket).get("Status")
    except ClientError as error:
        if troubles.status_of(error) not in (403, 404, 405, 501) or troubles.code_of(error) in troubles.NO_BUCKET:
            raise
        return objects.place.lock is not None
    return versioning in ("Enabled", "Suspended")


def versions_of(objects: S3Objects, prefix: str = "") -> Iterator[Version]:
    """Every version below a prefix, newest first for each key."""
    where = {"Bucket": objects.place.bucket, "Prefix": objects.place.key(prefix)}
    for page in objects.client.get_paginator("list_object_versions").paginate(**where):
        for marker, name in ((False, "Versions"), (True, "DeleteMarkers")):
            for one in page.get(name, ()):
                yield Version(
                    objects.place.ours(str(one["Key"])),
                    str(one["VersionId"]),
                    bool(one["IsLatest"]),
                    marker,
                    int(one.get("Size", 0)),
                    one["LastModified"].astimezone(UTC),
                )


def is_hidden(objects: S3Objects, key: str) -> bool:
    """Whether an object was only hidden by a marker. ``False`` if versions may not be listed."""
    from botocore.exceptions import ClientError

    try:
        if not is_versioned(objects):
            return False
        return any(one.key == key and not one.marker for one in versions_of(objects, key))
    except ClientError as error:
        if troubles.status_of(error) not in (403, 405, 501):
            raise
        return False


def delete(objects: S3Objects, key: str) -> None:
    """Remove an object with all its versions. ``Protected`` if its newest version is locked: then nothing is removed.

    An older version that is locked stays, hidden by a marker.
    """
    if not is_versioned(objects):
        _delete_one(objects, key)
        return
    known = sorted(
        (one for one in versions_of(objects, key) if one.key == key), key=lambda one: (one.latest, one.modified)
    )
    newest = next((one for one in known if one.latest and not one.marker), None)
    if newest is not None and (lock := lock_of(objects, key, newest.id)) is not None and lock.holds():
        raise protected(objects, key, lock)
    hidden = False
    for one in known:
        if one.latest and hidden:  # without it, an older version would be the object again
            _delete_one(objects, key)
        try:
            _delete_one(objects, key, one.id)
        except Protected:
            if one.latest:
                raise
            hidden = True


def _delete_one(objects: S3Objects, key: str, version: str = "") -> None:
    from botocore.exceptions import ClientError

    try:
        objects.client.delete_object(**objects.at(key), **({"VersionId": version} if version else {}))
    except ClientError as error:
        if troubles.code_of(error) in troubles.NO_OBJECT:
            return
        if troubles.status_of(error) != 403 or troubles.code_of(error) not in troubles.DENIED:
            raise
        raise protected(objects, key, lock_of(objects, key, version)) from error


def protected(objects: S3Objects, key: str, lock: Lock | None) -> Protected:
    on = objects.location(key)
    if lock is None:
        return Protected(
            "the server lets nothing be removed with this key", on=on, hint="see docs/stores.md for the permissions"
        )
    return Protected(f"the store locks this {lock}", on=on, hint="cleanup removes it after that")


def lock_of(objects: S3Objects, key: str, version: str = "") -> Lock | None:
    """The lock of an object, or of one version; ``None`` if there is none, or if the key may not see it."""
    with contextlib.suppress(NotFound):
        found: Any = objects.head(key, **({"VersionId": version} if version else {}))
        if found is None:
            return None
        if str(found.get("ObjectLockLegalHoldStatus", "")).upper() == "ON":
            return Lock("legal hold", None)
        until = found.get("ObjectLockRetainUntilDate")
        if until is not None:
            return Lock(str(found.get("ObjectLockMode", "")).lower(), until.astimezone(UTC))
    return None
