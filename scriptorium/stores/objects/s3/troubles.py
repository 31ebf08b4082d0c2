"""Errors of boto3 and of the servers, translated to errors of ours: what failed, on what, what to do next."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from scriptorium.errors import (
    DamageFound,
    NoSpace,
    NotFound,
    PermanentError,
    ScriptoriumError,
    StoreRefused,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

    from scriptorium.stores.objects.s3.place import S3Place

NO_BUCKET = frozenset({"NoSuchBucket"})
NO_OBJECT = frozenset({"NoSuchKey", "NoSuchVersion", "404", "NotFound"})
CONFLICT = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412"})
DENIED = frozenset({"AccessDenied", "403", "Forbidden", "MethodNotAllowed"})
_DAMAGED = frozenset({"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"})
_FULL = frozenset({"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "EntityTooLarge", "507"})
_BUSY = frozenset(
    {"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "Throttling", "TooManyRequests", "BadGateway"}
)
_KEYS = "check the credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or 'profile' and ~/.aws/credentials"
_REFUSED = {
    "InvalidAccessKeyId": ("the server does not know this access key", _KEYS),
    "SignatureDoesNotMatch": ("the secret key is wrong", _KEYS),
    "ExpiredToken": ("the credentials have ended", "get new ones"),
    "InvalidToken": ("the session token is wrong", _KEYS),
    "RequestTimeTooSkewed": (
        "the clock of this machine is wrong, by the clock of the server",
        "set the clock (timedatectl set-ntp true)",
    ),
    "NotImplemented": ("the server cannot do this", "see docs/stores.md, 'Servers'"),
    "InvalidStorageClass": ("the server has no such storage class", "see 'storage_class' in the settings"),
    "AuthorizationHeaderMalformed": ("the server expects another region", "set 'region'"),
    "PermanentRedirect": ("the bucket is in another region", "set 'region'"),
    "InvalidBucketName": ("this is no name for a bucket", "small letters, digits, '-' and '.', 3 to 63 of them"),
    "KMS.NotFoundException": ("the server does not know this key of encryption", "see 'kms_key' in the settings"),
}
UNLOCKABLE = frozenset({"InvalidRequest", "InvalidBucketState", "ObjectLockConfigurationNotFoundError"})


def is_no_bucket(error: ScriptoriumError) -> bool:
    return _cause(error) in NO_BUCKET


def is_damage(error: ScriptoriumError) -> bool:
    return _cause(error) in _DAMAGED


def _cause(error: ScriptoriumError) -> str:
    """The server's code of an error that was translated."""
    cause = error.__cause__
    return code_of(cause) if hasattr(cause, "response") else ""


def code_of(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def status_of(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


@contextlib.contextmanager
def translated(place: S3Place, on: str) -> Iterator[None]:
    """Errors of boto3 in the block become ours. ``on``: the object's or bucket's URL."""
    from botocore.exceptions import BotoCoreError, ClientError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ClientError as error:
        raise _of_answer(error, place, on) from error
    except (BotoCoreError, HTTPError) as error:
        raise _of_connection(error, place, on) from error


def _of_answer(error: ClientError, place: S3Place, on: str) -> Exception:
    code, status = code_of(error), status_of(error)
    server_message = str(error.response.get("Error", {}).get("Message", "") or code)
    if code in _REFUSED:
        what, hint = _REFUSED[code]
        return StoreRefused(what, on=on, hint=hint)
    if code in UNLOCKABLE and place.lock is not None:
        return StoreRefused(
            f"the bucket cannot lock what is put: {server_message}",
            on=place.url,
            hint="locking is switched on when a bucket is made: leave out 'lock', or name another bucket and run "
            "'stores init'",
        )
    if code in NO_BUCKET:
        return StoreRefused(
            f"there is no bucket '{place.bucket}'", on=place.url, hint="make it, or let 'scriptorium stores init' do so"
        )
    if code in _FULL or status == 507:
        return NoSpace(f"the store is full: {server_message}", on=on, hint="free space there, or raise its quota")
    if code == "NoSuchUpload":
        return StoreUnavailable(
            "the store does not answer: the upload was ended by somebody else", on=on, hint="try again"
        )
    if code in NO_OBJECT:
        return NotFound("no such object", on=on, hint="another store may have it: --from STORE")
    if code in _DAMAGED:
        return DamageFound(
            "what arrived at the server is not what was sent",
            on=on,
            hint="something on the way changes data; try again, and check the memory of this machine and of proxies",
        )
    if code in CONFLICT or status == 412:
        return PermanentError("the object was changed by somebody else", on=on, hint="see which host uses this prefix")
    if code in DENIED:
        return StoreRefused(
            f"the server denies this: {server_message}",
            on=on,
            hint="see docs/stores.md for the permissions a key needs",
        )
    if code in _BUSY or status >= 500 or status in (0, 408, 429):
        return StoreUnavailable(f"the store does not answer: {server_message}", on=on, hint="try again later")
    return PermanentError(
        f"the server refuses this: {server_message} ({code})", on=on, hint="see docs/stores.md, 'Servers'"
    )


def _of_connection(error: Exception, place: S3Place, on: str) -> Exception:
    from botocore import exceptions as of_boto

    if isinstance(error, of_boto.SSLError):
        return StoreRefused(
            "the certificate of the server is not trusted",
            on=place.endpoint_url or on,
            hint="set 'ca_file' to the certificate of its authority",
        )
    if isinstance(
        error,
        of_boto.NoCredentialsError
        | of_boto.PartialCredentialsError
        | of_boto.ProfileNotFound
        | of_boto.CredentialRetrievalError
        | of_boto.TokenRetrievalError,
    ):
        return StoreRefused(f"there are no credentials for this store: {error}", on=on, hint=_KEYS)
    if isinstance(error, of_boto.MissingDependencyException):
        return StoreRefused(f"a part of boto3 is missing: {error}", on=on, hint="pip install 'boto3[crt]'")
    if isinstance(error, of_boto.ParamValidationError | of_boto.NoRegionError | of_boto.InvalidRegionError):
        return StoreRefused(f"these settings do not fit: {error}", on=on, hint="see docs/stores.md")
    where = place.endpoint_url or "the address of AWS"
    return StoreUnavailable(
        f"the store does not answer: {_first_line(error)}", on=on, hint=f"is {where} right, and reachable from here?"
    )


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
