"""Archives: ``pack`` and ``unpack`` as one stream, hashing on the way; knows tar and compression.

Out: ``selection`` (with ``patterns``) says what is saved, ``packing`` and ``scribe`` write it (``headers``, ``ledger``)
through ``outflow`` and ``codec``; what is only read meanwhile are ``streams``. Back: ``inflow`` and ``members`` read,
``unpacking`` writes through ``placing``, ``comparison`` says what differs, ``rereading`` what cannot be read back.
"""

from scriptorium.archive.members import Member, extract_member, listed_entries, members
from scriptorium.archive.packing import pack
from scriptorium.archive.patterns import compiled
from scriptorium.archive.rereading import Reread, reread
from scriptorium.archive.selection import Found, select, survey
from scriptorium.archive.streams import Piece, Stream
from scriptorium.archive.unpacking import Unpacked, unpack

__all__ = [
    "Found",
    "Member",
    "Piece",
    "Reread",
    "Stream",
    "Unpacked",
    "compiled",
    "extract_member",
    "listed_entries",
    "members",
    "pack",
    "reread",
    "select",
    "survey",
    "unpack",
]
