"""Libraries to try things on: built from nothing, and kept living by a process of their own."""

from scriptorium.demo.bibliotheca import Summary, build_bibliotheca
from scriptorium.demo.sizes import build_size

__all__ = ["Summary", "build_bibliotheca", "build_size"]
