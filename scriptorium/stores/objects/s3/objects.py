"""A bucket as a store of objects: each a key below the prefix, put by the server whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO

from scriptorium.errors import (
    DamageFound,
    LibraryBusy,
    NotFound,
    StoreUnavailable,
    UsageError,
)
from scriptorium.failpoints import reach
from scriptorium.manifest import is_archive_name
from scriptorium.progress import Advance
from scriptorium.stores.objects.base import ObjectInfo, checked_key
from scriptorium.stores.objects.s3 import completion, multipart, troubles, versions
from scriptorium.stores.objects.s3.checksums import Kind
from scriptorium.stores.objects.s3.completion import OWNER, SHA256, metadata_of
from scriptorium.stores.objects.s3.place import MEBIBYTE, S3Place
from scriptorium.stores.objects.s3.reading import open_object

log = logging.getLogger(__name__)

_UNFINISHED = re.compile(r"(?P<folder>(?:[^/]+/)?)\.(?P<name>.+)\.[0-9a-f]{8}\.partial", re.DOTALL)


@dataclass(frozen=True, slots=True)
class S3Objects:
    """``owner``: the id of the backup that is put; what another backup put under the same key is then not replaced, as
    far as the server has conditional writes. ``retain_until``: what is put is locked for so long."""

    place: S3Place
    name: str = "s3"
    owner: str = ""
    retain_until: datetime | None = None

    @property
    def folder(self) -> None:
        return None

    @property
    def takes_over(self) -> bool:
        return False

    @property
    def client(self) -> Any:
        return self.place.connection.client()

    def at(self, key: str) -> dict[str, str]:
        """The object of a key, as requests name it."""
        return {"Bucket": self.place.bucket, "Key": self.place.key(key)}

    def location(self, key: str) -> str:
        return f"{self.place.url}{key}"

    def trouble(self, key: str = "") -> contextlib.AbstractContextManager[None]:
        return troubles.translated(self.place, self.location(key))

    def prepare(self) -> None:
        with self.trouble():
            self._bucket(lambda: self.client.head_bucket(Bucket=self.place.bucket))

    def time(self) -> datetime | None:
        """The clock of the server."""
        with self.trouble():
            answer = self._bucket(lambda: self.client.head_bucket(Bucket=self.place.bucket))
        try:
            at = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        except (KeyError, ValueError):
            return None
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)

    def _bucket(self, ask: Callable[[], Any]) -> Any:
        """A request whose "not found" can only mean the bucket. The answer to HEAD contains only the status."""
        from botocore.exceptions import ClientError

        try:
            return ask()
        except ClientError as error:
            if troubles.status_of(error) == 404:
                error.response["Error"]["Code"] = "NoSuchBucket"
            raise

    # --- putting ------------------------------------------------------------------------------------------------

    def put(self, key: str, file: Path, *, sha256: str | None = None, advance: Advance | None = None) -> None:
        checked_key(key)
        size, advance = file.stat().st_size, advance or (lambda _: None)
        if sha256 is not None and self._is_there(key, size, sha256):
            advance(size)
            return
        if size > self.place.part_size * MEBIBYTE:
            multipart.put_in_parts(self, key, file, size, sha256, advance)
            log.info("%s: %s is sent in parts", self.name, key)
            return
        data = file.read_bytes()
        if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
            raise DamageFound("the archive changed on its way into the store", on=str(file), hint="check the disk")
        self.put_bytes(key, data)  # an open upload of this key may be another host's: sweep aborts old ones
        advance(size)

    def _is_there(self, key: str, size: int, sha256: str) -> bool:
        """Whether an earlier attempt of this backup has put the object, so that only the manifest is missing."""
        found = self.head(key) if self.owner else None
        if found is None or int(found["ContentLength"]) != size:
            return False
        if metadata_of(found).get(OWNER) != self.owner or metadata_of(found).get(SHA256) != sha256:
            return False
        self.lock_as_long(key, found)
        return True

    def put_bytes(self, key: str, data: bytes) -> None:
        checked_key(key)
        kind = Kind(self.place.checksums)
        digest = kind.begin()
        if digest is not None:
            digest.update(data)
        properties = self._properties(hashlib.sha256(data).hexdigest()) | kind.sent(digest.digest() if digest else None)
        with self.trouble(key):
            self.unless_taken(
                key, lambda conditions: self.client.put_object(**self.at(key), Body=data, **properties, **conditions)
            )

    def _properties(self, sha256: str | None) -> dict[str, Any]:
        """What is stored with an object: its owner, its storage class, and until when it is locked."""
        properties: dict[str, Any] = dict(self.place.stored_as())
        properties["Metadata"] = {OWNER: self.owner} if self.owner else {}
        if sha256 is not None:
            properties["Metadata"][SHA256] = sha256
        if self.retain_until is not None and self.place.lock is not None:
            properties["ObjectLockMode"] = self.place.lock.mode.upper()
            properties["ObjectLockRetainUntilDate"] = self.retain_until
        return properties

    def unless_taken(self, key: str, send: Callable[[Mapping[str, str]], Any]) -> Any:
        """Write where no object is, or replace our own object. A server without conditional writes gets none."""
        from botocore.exceptions import ClientError

        if not self.owner:
            return send({})
        try:
            return send({"IfNoneMatch": "*"})
        except ClientError as error:
            if troubles.code_of(error) == "NotImplemented" or troubles.status_of(error) == 501:
                return send({})
            if not (troubles.code_of(error) in troubles.CONFLICT or troubles.status_of(error) == 412):
                raise
        there = self.head(key)
        if there is None:
            raise StoreUnavailable(
                "the store does not answer: another write of this object goes on", on=self.location(key)
            )
        if metadata_of(there).get(OWNER) != self.owner:
            raise LibraryBusy(
                "another backup has this name already",
                on=self.location(key),
                hint="does another host back up the same library to this prefix? Give each host its own",
            )
        return send({"IfMatch": str(there["ETag"])})

    # --- parts of a large object ---------------------------------------------------------------------------------

    def begin_upload(self, key: str, checksums: Mapping[str, str], sha256: str | None) -> str:
        with self.trouble(key):
            begun = self.client.create_multipart_upload(**self.at(key), **checksums, **self._properties(sha256))
            return str(begun["UploadId"])

    def send_part(self, upload: multipart.Upload, part: multipart.Part, body: io.RawIOBase, kind: Kind) -> str:
        """Returns the ETag of the part."""
        with self.trouble(upload.key):
            answer = self.client.upload_part(
                **self.at(upload.key),
                UploadId=upload.id,
                PartNumber=part.number,
                Body=body,
                ContentLength=part.size,
                **kind.sent(part.digest),
            )
            return str(answer["ETag"])

    def complete_upload(self, upload: multipart.Upload, kind: Kind, whole: multipart.Whole) -> None:
        """``DamageFound`` if the server has put together something else."""
        completion.complete(self, upload, kind, whole)

    def lock_as_long(self, key: str, found: Any) -> None:
        """The lock of a continued upload was computed when the upload began: extend it to the time computed now."""
        until = found.get("ObjectLockRetainUntilDate")
        if self.retain_until is None or self.place.lock is None or (until is not None and until >= self.retain_until):
            return
        with self.trouble(key):
            self.client.put_object_retention(
                **self.at(key), Retention={"Mode": self.place.lock.mode.upper(), "RetainUntilDate": self.retain_until}
            )

    def abort_upload(self, key: str, upload: str) -> None:
        with contextlib.suppress(NotFound, StoreUnavailable), self.trouble(key):
            self.client.abort_multipart_upload(**self.at(key), UploadId=upload)

    def uploads(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Uploads that were begun and not finished: key, id as ``etag``, when they were begun. None if the server
        cannot list them."""
        from botocore.exceptions import ClientError

        with self.trouble(prefix):
            try:
                for page in self._pages("list_multipart_uploads", prefix):
                    for one in page.get("Uploads", ()):
                        key = self.place.ours(str(one["Key"]))
                        yield ObjectInfo(key, 0, one["Initiated"].astimezone(UTC), str(one["UploadId"]))
            except ClientError as error:
                if troubles.status_of(error) not in (405, 501):
                    raise

    def parts(self, key: str, upload: str) -> Iterator[Mapping[str, Any]]:
        with self.trouble(key):
            for page in self.client.get_paginator("list_parts").paginate(**self.at(key), UploadId=upload):
                yield from page.get("Parts", ())

    # --- reading ------------------------------------------------------------------------------------------------

    def open(self, key: str) -> BinaryIO:
        checked_key(key)
        return open_object(self, key)

    def open_range(self, key: str, start: int, end: int) -> BinaryIO:
        checked_key(key)
        return open_object(self, key, start, end)

    def get(self, key: str, **conditions: str) -> Any:
        """The answer to a request for an object; ``None`` if it is another one than the conditions ask for."""
        from botocore.exceptions import ClientError

        with self.trouble(key):
            try:
                return self.client.get_object(**self.at(key), **conditions)
            except ClientError as error:
                if troubles.status_of(error) == 416:  # the object ends before the range
                    return {"Body": io.BytesIO(), "ETag": "", "ContentLength": 0, "ContentRange": ""}
                if "IfMatch" in conditions and troubles.status_of(error) in (404, 412):
                    return None
                raise

    def read_bytes(self, key: str) -> bytes:
        with self.open(key) as stream:
            return stream.read()

    def head(self, key: str, **more: str) -> Any:
        """The properties of an object; ``None`` if it does not exist."""
        try:
            with self.trouble(key):
                return self.client.head_object(**self.at(key), **more)
        except NotFound:
            return None

    # --- listing ------------------------------------------------------------------------------------------------

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """The top level and one level of folders: other programs may keep many more objects in the bucket. The result
        is sorted here, because servers do not agree on the order."""
        found, folders = self._level(prefix)
        if "/" not in prefix:
            found = [*found, *(info for folder in folders for info in self._level(folder)[0])]
        yield from sorted((info for info in found if _is_ours(info.key)), key=lambda info: info.key)

    def _level(self, prefix: str) -> tuple[Sequence[ObjectInfo], Sequence[str]]:
        found, folders = [], []
        with self.trouble(prefix):
            for page in self._bucket(lambda: list(self._pages("list_objects_v2", prefix, Delimiter="/"))):
                found += [self._info(one) for one in page.get("Contents", ())]
                folders += [
                    str(one["Prefix"]).removeprefix(self.place.prefix) for one in page.get("CommonPrefixes", ())
                ]
        return found, [folder for folder in folders if not folder.startswith(".")]

    def _pages(self, request: str, prefix: str, **more: str) -> Iterator[Any]:
        where = {"Bucket": self.place.bucket, "Prefix": self.place.key(prefix)}
        yield from self.client.get_paginator(request).paginate(**where, **more)

    def _info(self, one: Mapping[str, Any]) -> ObjectInfo:
        key = self.place.ours(str(one["Key"]))
        return ObjectInfo(key, int(one["Size"]), one["LastModified"].astimezone(UTC), str(one["ETag"]).strip('"'))

    def leftovers(self) -> Iterator[ObjectInfo]:
        """Uploads in parts that were not finished, with the names that unfinished files have in a folder."""
        for one in self.uploads():
            if "/" in one.key and _is_ours(one.key) and is_archive_name(one.key.rpartition("/")[2]):
                folder, slash, name = one.key.rpartition("/")
                suffix = hashlib.sha256(one.etag.encode()).hexdigest()[:8]
                partial = f"{folder}{slash}.{name}.{suffix}.partial"
                yield ObjectInfo(partial, 0, multipart.last_part(self, one), one.etag)

    def discard(self, leftover: ObjectInfo) -> None:
        known = _UNFINISHED.fullmatch(leftover.key)
        if known is not None:
            self.abort_upload(known["folder"] + known["name"], leftover.etag)

    # --- removing -----------------------------------------------------------------------------------------------

    def may_discard(self, key: str, manifest: str) -> bool:
        """Only what we put, by its metadata. An object whose manifest is hidden by a marker stays: somebody else
        removed the manifest, and may remove the marker to have the backup again."""
        found = self.head(key)
        if found is None or not {OWNER, SHA256} & metadata_of(found).keys():
            return False
        with self.trouble(key):
            hidden = versions.is_hidden(self, manifest)
        if hidden:
            log.warning("%s: %s stays: its manifest was removed by somebody, and has older versions", self.name, key)
        return not hidden

    def delete(self, key: str) -> None:
        """``Protected`` for an object that is locked."""
        checked_key(key)
        with self.trouble(key):
            versions.delete(self, key)
        reach("bucket.after-delete")

    def usage(self) -> tuple[int, int | None]:
        return sum(info.size for info in self.list()), None


def _is_ours(key: str) -> bool:
    try:
        checked_key(key)
    except UsageError:
        return False
    return True
