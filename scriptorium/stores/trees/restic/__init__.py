"""restic: what was saved lies encrypted and without repetition in a repository that other hosts may use, too."""

from scriptorium.stores.trees.restic.store import ResticStore

__all__ = ["ResticStore"]
