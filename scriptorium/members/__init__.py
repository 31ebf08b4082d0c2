"""The members of a backup, whatever keeps them: files, folders and links with everything that is kept of them.

Out: ``walk`` reads every source once (``reading``) into any number of ``sinks``; ``selection`` (with ``patterns``) says
what of a tree is saved, ``remarks`` what could not be, ``ledger`` lists what was read; what is only read meanwhile are
``streams``. Back: ``writing`` writes each ``member`` where it is wanted,
through ``placing``; ``comparison`` says what differs, ``rereading`` what cannot be read back.
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
