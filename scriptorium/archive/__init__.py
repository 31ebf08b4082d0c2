"""Archives: ``pack`` and ``unpack`` as one stream, hashing on the way; only this package knows tar and compression.

Writing: ``writer`` takes members and writes them (``headers``) through ``output_stream`` and ``codec``; ``packing``
walks over sources with this writer alone. Reading: ``input_stream`` and ``reader``; ``unpacking`` writes the members to
disk; ``verification`` reads a copy back and has a name for every kind of damage.
"""

from scriptorium.archive.packing import pack
from scriptorium.archive.reader import extract_member, members
from scriptorium.archive.unpacking import unpack

__all__ = ["extract_member", "members", "pack", "unpack"]
