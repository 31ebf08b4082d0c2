"""The nouns: frozen records that every module may hold and no module may change.

Times are aware datetimes in UTC. Sizes are bytes. Paths inside an archive are ``str`` with ``/``, relative,
decoded with ``surrogateescape``: every byte string that a filesystem allows can be written and read back unchanged.

Import them from here. ``staged`` describes a source before it is packed, ``manifest`` a backup as it was written,
``annotations`` what becomes known of it later, ``listing`` a backup as the catalog lists it, ``health`` what an
examination of a database found, ``unset`` what a restore could not set.
"""

from scriptorium.model.annotations import NOT_COMPARABLE, NOT_PROVEN, PROVEN, Annotations, Proof, Verification
from scriptorium.model.found import LibraryFound, StoreFound
from scriptorium.model.health import Check, Finding, Health, Holder
from scriptorium.model.listing import Backup, Copy, MissingCopy
from scriptorium.model.manifest import (
    MOST_UNSAVED,
    ArchiveRecord,
    EntryPoint,
    FileEntry,
    FileList,
    Manifest,
    Part,
    Provenance,
    TableFingerprint,
    Unsaved,
)
from scriptorium.model.staged import Rows, Staged, Streams, Survey, Tree
from scriptorium.model.unset import Unset, UnsetTally

__all__ = [
    "MOST_UNSAVED",
    "NOT_COMPARABLE",
    "NOT_PROVEN",
    "PROVEN",
    "Annotations",
    "ArchiveRecord",
    "Backup",
    "Check",
    "Copy",
    "EntryPoint",
    "FileEntry",
    "FileList",
    "Finding",
    "Health",
    "Holder",
    "LibraryFound",
    "Manifest",
    "MissingCopy",
    "Part",
    "Proof",
    "Provenance",
    "Rows",
    "Staged",
    "StoreFound",
    "Streams",
    "Survey",
    "TableFingerprint",
    "Tree",
    "Unsaved",
    "Unset",
    "UnsetTally",
    "Verification",
]
