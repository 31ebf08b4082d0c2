"""Archives in a bucket: ``S3Store``. Nothing here loads boto3 before a request is made."""

from __future__ import annotations

from scriptorium.stores.objects.s3.store import S3Store

__all__ = ["S3Store"]
