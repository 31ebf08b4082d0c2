"""The members of a backup in any store: files, folders and links with their attributes.

Saving: ``walk`` reads every source once (``reading``) into any number of ``sinks``. ``selection`` (with ``patterns``)
chooses the files of a tree, ``remarks`` records what could not be saved, ``ledger`` lists what was read. ``streams``
are parts that are read from the living source during the walk. Restoring: ``writing`` writes each ``member`` to its
place (``placing``). ``comparison`` finds differences, ``rereading`` reads the written files again.
"""

from scriptorium.members.ledger import OWN, listed_entries
from scriptorium.members.member import Member
from scriptorium.members.patterns import compiled
from scriptorium.members.rereading import Reread, reread
from scriptorium.members.selection import Found, select, survey
from scriptorium.members.streams import Piece, Stream
from scriptorium.members.writing import Unpacked, write_members

__all__ = [
    "OWN",
    "Found",
    "Member",
    "Piece",
    "Reread",
    "Stream",
    "Unpacked",
    "compiled",
    "listed_entries",
    "reread",
    "select",
    "survey",
    "write_members",
]
