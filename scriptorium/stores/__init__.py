"""The stores; the union is the registry: a new one is its module and a line here."""

from __future__ import annotations

from scriptorium.stores.base import ObjectInfo, Store
from scriptorium.stores.objects.local import LocalStore

AnyStore = LocalStore

__all__ = ["AnyStore", "LocalStore", "ObjectInfo", "Store"]
