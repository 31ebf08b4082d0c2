"""borg: what was saved lies encrypted and without repetition in a repository that other hosts may use, too."""

from scriptorium.stores.trees.borg.store import BorgStore

__all__ = ["BorgStore"]
