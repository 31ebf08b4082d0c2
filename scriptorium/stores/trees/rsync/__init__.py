"""rsync: every backup is a folder, in which unchanged files are links to the earlier one; here, or by ssh."""

from scriptorium.stores.trees.rsync.store import RsyncStore

__all__ = ["RsyncStore"]
