"""Backups in a remote of rclone: a folder for each, in which the files lie as they are."""

from scriptorium.stores.trees.rclone.store import RcloneStore

__all__ = ["RcloneStore"]
