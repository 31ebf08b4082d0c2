"""Archives: ``pack`` and ``unpack`` as one stream, hashing on the way; only this package knows tar and compression.

Out: ``writer`` takes members in and writes them (``headers``) through ``outflow`` and ``codec``; ``packing`` is the
walk over sources with it alone. Back: ``inflow`` and ``reader`` read them; ``verification`` reads a copy back, every
kind of damage by its name.
"""

from scriptorium.archive.packing import pack
from scriptorium.archive.reader import extract_member, members
from scriptorium.archive.unpacking import unpack

__all__ = ["extract_member", "members", "pack", "unpack"]
