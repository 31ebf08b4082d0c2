"""Completing an upload in parts, and examining what the server has put together."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from scriptorium.errors import DamageFound, ScriptoriumError, StoreUnavailable
from scriptorium.stores.objects.s3 import troubles
from scriptorium.stores.objects.s3.checksums import Kind

if TYPE_CHECKING:
    from scriptorium.stores.objects.s3.multipart import Upload, Whole
    from scriptorium.stores.objects.s3.objects import S3Objects

OWNER, SHA256 = "scriptorium-id", "sha256"  # keys of an object's metadata


def metadata_of(answer: Any) -> dict[str, str]:
    """By lower-case names: some servers capitalise them."""
    return {str(name).lower(): str(value) for name, value in answer.get("Metadata", {}).items()}


def complete(objects: S3Objects, upload: Upload, kind: Kind, whole: Whole) -> None:
    """``DamageFound`` if the server has put together something else."""
    from botocore.exceptions import ClientError

    key, answer, lost = upload.key, {}, False
    with objects.trouble(key):
        try:
            answer = objects.unless_taken(key, lambda conditions: _request(objects, upload, kind, whole, conditions))
        except ClientError as error:  # completed already, if the answer to an earlier request was lost
            lost = troubles.code_of(error) == "NoSuchUpload"
            if not lost:
                raise
    found = objects.head(key, **({"ChecksumMode": "ENABLED"} if lost and kind.field else {}))
    expected = kind.of_whole(whole.parts, whole.digest)
    stored_digest = (found if lost else answer).get(kind.field) if found and kind.field else None
    wrong = bool(stored_digest and expected and stored_digest != expected)
    if found is None or (lost and (wrong or metadata_of(found).get(SHA256) != whole.sha256)):
        raise _ended_by_another(objects, key)
    if not _is_marked(objects, found, whole.sha256):  # equal beginnings of archives: the upload was another host's
        _remove_result(objects, key, answer, found)
        raise _ended_by_another(objects, key)
    if int(found["ContentLength"]) != whole.size or wrong:
        _remove_result(objects, key, answer, found)
        raise DamageFound("what the server put together is not what was sent", on=objects.location(key))
    objects.lock_as_long(key, found)


def _request(objects: S3Objects, upload: Upload, kind: Kind, whole: Whole, conditions: Mapping[str, str]) -> Any:
    parts = [
        {"PartNumber": part.number, "ETag": etag} | (kind.sent(part.digest) if kind.field else {})
        for part, etag in zip(whole.parts, whole.etags, strict=True)
    ]
    full = kind.sent(whole.digest) | {"ChecksumType": "FULL_OBJECT"} if whole.digest is not None else {}
    return objects.client.complete_multipart_upload(
        **objects.at(upload.key), UploadId=upload.id, MultipartUpload={"Parts": parts}, **full, **conditions
    )


def _ended_by_another(objects: S3Objects, key: str) -> StoreUnavailable:
    what = "the store does not answer: the upload was ended by somebody else"
    return StoreUnavailable(what, on=objects.location(key), hint="try again")


def _is_marked(objects: S3Objects, found: Any, sha256: str) -> bool:
    """Whether an object's metadata names this backup and these contents."""
    metadata = metadata_of(found)
    return (not objects.owner or metadata.get(OWNER) == objects.owner) and metadata.get(SHA256, sha256) == sha256


def _remove_result(objects: S3Objects, key: str, answer: Mapping[str, Any], found: Any) -> None:
    """Remove what this upload made, in that version alone; what another host has put there since then stays."""
    if str(answer.get("ETag", "")).strip('"') != str(found["ETag"]).strip('"'):
        return
    version = {"VersionId": str(found["VersionId"])} if found.get("VersionId") else {}
    with contextlib.suppress(ScriptoriumError), objects.trouble(key):
        objects.client.delete_object(**objects.at(key), **version)
