"""The stores; ``KINDS`` is the registry: a new kind is its module and a line here.

A store of the settings is one frozen model: its fields are its configuration, and it is a ``BackupStore`` itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, cast

from pydantic import BaseModel, PlainValidator, ValidationError

from scriptorium.stores.base import BackupStore, Lock, Package, Packaging, Share, StoredBackup, StoreFeatures
from scriptorium.stores.objects.encryption import Age, age_of
from scriptorium.stores.objects.local import LocalStore
from scriptorium.stores.objects.s3 import S3Store
from scriptorium.stores.trees.borg import BorgStore
from scriptorium.stores.trees.rclone import RcloneStore
from scriptorium.stores.trees.restic import ResticStore
from scriptorium.stores.trees.rsync import RsyncStore

KINDS: dict[str, type[BaseModel]] = {
    "local": LocalStore,
    "s3": S3Store,
    "restic": ResticStore,
    "borg": BorgStore,
    "rsync": RsyncStore,
    "rclone": RcloneStore,
}
_DEFAULT = "local"


def kind_of(table: Mapping[str, object]) -> type[BaseModel] | None:
    """The model of a table of the settings, by its ``kind``; none where there is no such kind."""
    return KINDS.get(str(table.get("kind", _DEFAULT)))


def _configured(table: object) -> BackupStore:
    if not isinstance(table, Mapping):
        return cast(BackupStore, table)  # a store that was made already
    model = kind_of(table)
    if model is None:
        kinds = " or ".join(repr(kind) for kind in KINDS)
        wrong = {"type": "literal_error", "loc": ("kind",), "input": table["kind"], "ctx": {"expected": kinds}}
        raise ValidationError.from_exception_data("store", [wrong])  # type: ignore[list-item]
    return cast(BackupStore, model.model_validate(table))


AnyStore = Annotated[BackupStore, PlainValidator(_configured)]

__all__ = [
    "KINDS",
    "Age",
    "AnyStore",
    "BackupStore",
    "BorgStore",
    "LocalStore",
    "Lock",
    "Package",
    "Packaging",
    "RcloneStore",
    "ResticStore",
    "RsyncStore",
    "Share",
    "StoreFeatures",
    "StoredBackup",
    "age_of",
    "kind_of",
]
