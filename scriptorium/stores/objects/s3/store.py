"""The kind ``s3``: archives in a bucket."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal
from urllib.parse import parse_qsl, unquote

from scriptorium.errors import StoreRefused
from scriptorium.manifest import manifest_key
from scriptorium.model import Manifest
from scriptorium.stores.base import GRACE, Lock, StoreFeatures
from scriptorium.stores.care import Finding
from scriptorium.stores.objects.archive_store import ArchiveStore
from scriptorium.stores.objects.s3 import care, versions
from scriptorium.stores.objects.s3.objects import S3Objects
from scriptorium.stores.objects.s3.place import S3Place


class S3Store(ArchiveStore, S3Place):
    """Archives in a bucket of an S3 server; the settings are those of ``S3Place``."""

    kind: Literal["s3"] = "s3"
    name: str = "s3"

    @classmethod
    def from_url(cls, url: str) -> Mapping[str, object] | None:
        """``s3://BUCKET/PREFIX``, and other settings behind a question mark: ``?endpoint_url=URL&region=R``."""
        if not url.startswith("s3://"):
            return None
        place, _, more = url.removeprefix("s3://").partition("?")
        bucket, _, prefix = place.partition("/")
        return {"bucket": unquote(bucket), "prefix": unquote(prefix), **dict(parse_qsl(more))}

    @property
    def objects(self) -> S3Objects:
        return S3Objects(self, self.name)

    @property
    def features(self) -> StoreFeatures:
        return dataclasses.replace(super().features, resumes=True, immutable=self.lock is not None)

    def objects_for(self, manifest: Manifest) -> S3Objects:
        until = self.lock.until(manifest.tier, datetime.now(UTC)) if self.lock else None
        return dataclasses.replace(self.objects, owner=manifest.id, retain_until=until)

    def sweep(self, now: datetime, *, grace: timedelta = GRACE, dry_run: bool = False) -> tuple[str, ...]:
        if not dry_run:
            with contextlib.suppress(StoreRefused):  # a key that may not list versions; the rest is swept
                care.sweep_probes(self.objects, now)
        return super().sweep(now, grace=grace, dry_run=dry_run)

    def initialize(self) -> str:
        return care.initialize(self.objects)

    def examine(self, *, try_delete: bool) -> Iterator[Finding]:
        yield from self._about_keys()
        yield from care.examine(self.objects, try_delete=try_delete)

    def time(self) -> datetime | None:
        return self.objects.time()

    def locked(self, key: str) -> Lock | None:
        """The lock of the manifest or of the archive, whichever ends later."""
        locks = [versions.lock_of(self.objects, name) for name in (manifest_key(key), key)]
        found = [one for one in locks if one is not None]
        return max(found, key=lambda one: one.until or datetime.max.replace(tzinfo=UTC), default=None)

    def remove(self, key: str) -> None:
        lock = versions.lock_of(self.objects, key)
        if lock is not None and lock.holds():  # before its manifest is removed
            raise versions.protected(self.objects, key, lock)
        super().remove(key)
