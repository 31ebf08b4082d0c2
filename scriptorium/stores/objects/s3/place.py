"""The settings of a bucket, and how it is reached."""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from scriptorium.limits import NoTruth, Seconds
from scriptorium.words import Tier

MEBIBYTE = 1 << 20
_ODD = re.compile(r"[\x00-\x1f\x7f\\%]")
_WRITTEN = re.compile(r"%([01][0-9A-F]|7F|5C|25)")
Checksums = Literal["sha256", "crc64", "md5", "none"]


def _folder(prefix: str) -> str:
    """A prefix ends with a slash; some servers drop an empty name in a key."""
    prefix = prefix.strip("/")
    if any(name in ("", ".", "..") for name in prefix.split("/")) and prefix:
        raise ValueError("a prefix is written like backups/home/")
    return f"{prefix}/" if prefix else ""


class ObjectLock(BaseModel):
    """How long the server keeps what was put from being removed.

    ``governance``: a key with a permission of its own may lift it; ``compliance``: nobody may, not even the owner of
    the bucket. ``days``: from the time of the put; ``tiers``: the same for the backups of a tier. 0: no lock.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["governance", "compliance"]
    days: Annotated[float, NoTruth, Field(ge=0, le=36_500, allow_inf_nan=False)] = 0
    tiers: dict[Tier, Annotated[float, NoTruth, Field(ge=0, le=36_500, allow_inf_nan=False)]] = {}

    def until(self, tier: Tier, now: datetime) -> datetime | None:
        """The end of the lock of a backup that is put now, in whole seconds; none where it is not locked."""
        days = self.tiers.get(tier, self.days)
        return (now + timedelta(days=days)).astimezone(UTC).replace(microsecond=0) if days else None


@dataclass(frozen=True, slots=True)
class Connection:
    """What a client is made of; equal ones share a client."""

    endpoint_url: str
    region: str
    profile: str
    credentials_file: str
    path_style: bool | None
    ca_file: str
    attempts: int
    timeout: float
    connections: int
    signs_contents: bool
    process: int

    def client(self) -> Any:
        """A client of boto3, which retries with jitter what is transient, and nothing else."""
        return _client(self)


class S3Place(BaseModel):
    """A bucket and how it is used; docs/stores.md explains every setting.

    Credentials come by the usual way of AWS: variables, ``profile`` in ``~/.aws`` or in a ``credentials_file`` of the
    same form, the machine's role. ``part_size``: MiB. ``parallel``: so many parts are sent at the same time.
    ``attempts``: of each request. ``timeout``: seconds without an answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bucket: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$")]
    prefix: Annotated[str, Field(max_length=500), AfterValidator(_folder)] = ""
    endpoint_url: Annotated[str, Field(pattern=r"^(https?://[^/@\s]+/?)?$")] = ""
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]*$")] = ""
    profile: str = ""
    credentials_file: Path | None = None
    path_style: bool | None = None
    ca_file: Path | None = None
    checksums: Checksums = "sha256"
    storage_class: Annotated[str, Field(pattern=r"^[A-Z0-9_]*$")] = ""
    encryption: Literal["", "AES256", "aws:kms", "aws:kms:dsse"] = ""
    kms_key: str = ""
    lock: ObjectLock | None = None
    part_size: Annotated[int, NoTruth, Field(ge=5, le=5000)] = 16
    parallel: Annotated[int, NoTruth, Field(ge=1, le=64)] = 4
    attempts: Annotated[int, NoTruth, Field(ge=1, le=20)] = 5
    timeout: Seconds = 60.0

    @property
    def connection(self) -> Connection:
        """SHA-256 of the contents stands in a signed header; then boto3 need not make its own."""
        return Connection(
            self.endpoint_url.rstrip("/"),
            self.region,
            self.profile,
            str(self.credentials_file or ""),
            self.path_style,
            str(self.ca_file or ""),
            self.attempts,
            self.timeout,
            self.parallel + 2,
            self.checksums != "sha256",
            os.getpid(),
        )

    @property
    def url(self) -> str:
        """The address of the server, the bucket and the prefix."""
        server = f"{self.endpoint_url.rstrip('/')}/" if self.endpoint_url else "s3://"
        return f"{server}{self.bucket}/{self.prefix}"

    def key(self, name: str) -> str:
        """How the server calls an object. Letters that some servers change are written as in a URL."""
        return self.prefix + _ODD.sub(lambda found: f"%{ord(found[0]):02X}", name)

    def ours(self, key: str) -> str:
        """The name of an object that the server calls so."""
        return _WRITTEN.sub(lambda found: chr(int(found[1], 16)), key.removeprefix(self.prefix))

    @model_validator(mode="after")
    def _settings_fit(self) -> Self:
        if self.lock is not None and self.checksums == "none":
            raise ValueError("a lock needs checksums: S3 locks nothing that comes without; 'md5' is known everywhere")
        if self.kms_key and not self.encryption.startswith("aws:kms"):
            raise ValueError("'kms_key' goes with encryption = \"aws:kms\"")
        return self

    def stored_as(self) -> dict[str, str]:
        """The storage class and the encryption by the server, as parameters of a put."""
        options = {
            "StorageClass": self.storage_class,
            "ServerSideEncryption": self.encryption,
            "SSEKMSKeyId": self.kms_key,
        }
        return {name: value for name, value in options.items() if value}


@functools.lru_cache(maxsize=16)
def _session(profile: str, credentials_file: str, process: int) -> Any:
    """Clients of one session share what boto3 has read."""
    import boto3
    import botocore.session

    core = botocore.session.Session(profile=profile or None)
    if credentials_file:
        core.set_config_variable("credentials_file", credentials_file)
    return boto3.Session(botocore_session=core)


@functools.lru_cache(maxsize=16)
def _client(connection: Connection) -> Any:
    from botocore.config import Config

    session = _session(connection.profile, connection.credentials_file, connection.process)
    region = connection.region or session.region_name
    custom = bool(connection.endpoint_url)
    path_style = custom if connection.path_style is None else connection.path_style
    config = Config(
        retries={"mode": "standard", "total_max_attempts": connection.attempts},
        connect_timeout=min(connection.timeout, 10),
        read_timeout=connection.timeout,
        max_pool_connections=connection.connections,
        tcp_keepalive=True,
        signature_version="s3v4",
        s3={
            "addressing_style": "path" if path_style else "auto",
            "payload_signing_enabled": connection.signs_contents,
        },
        # every server accepts this; each request names the checksum that it wants
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return session.client(
        "s3",
        region_name=region or ("us-east-1" if custom else None),
        endpoint_url=connection.endpoint_url or None,
        verify=connection.ca_file or None,
        config=config,
    )
