"""A source on its way into a backup: its trees, what its survey expects, what its capture made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from scriptorium.model.manifest import PLAIN_FILES, Provenance, TableFingerprint

# What a database answered to a statement: its rows, every value as text.
Rows = tuple[tuple[str | None, ...], ...]


@dataclass(frozen=True, slots=True)
class Tree:
    """A file or folder to pack.

    ``root``     where it is on disk (absolute)
    ``at``       its path in the archive (``""``: the entries of ``root`` are at the top)
    ``include``  glob patterns, relative to ``root``; empty means everything
    ``exclude``  glob patterns, relative to ``root``; see ``members.patterns`` for their meaning
    ``never``    absolute paths that are never entered, even if a pattern matches (our own stores)
    ``optional`` a root that does not exist is no error and no warning
    """

    root: str
    at: str
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    optional: bool = False


class Streams(StrEnum):
    """Whether a source goes directly into the archive, without a copy in the workspace."""

    NEVER = "never"
    WHERE_SHORT = "where the disk is short"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Survey:
    """How much data a source is expected to have, for the check of free space: bytes, number of files.

    ``staged_bytes``: how much space its copy needs in the workspace, if it is copied there first.
    ``holes``: how many of the bytes take no space on the disk (sparse files).
    """

    bytes: int
    files: int
    staged_bytes: int = 0
    streams: Streams = Streams.NEVER
    holes: int = 0


@dataclass(frozen=True, slots=True)
class Staged:
    """One source, ready to be packed: what is known of it so far, and the trees that hold it.

    ``answers``: what the database answered at the snapshot to the source's ``statements``, by their names.
    ``pending``: no file of it exists yet; it is read while it is packed.
    ``missing_fingerprints``: as in ``Part``; packing writes their warnings.
    ``seen``: the hashes of the files from which its fingerprints were taken, by their paths in the archive. Only
    these contents are packed.
    """

    source: str
    kind: str
    path: str
    method: str
    started_at: datetime
    finished_at: datetime
    trees: tuple[Tree, ...]
    engine_version: str | None = None
    tables: Mapping[str, TableFingerprint] | None = None
    export: str | None = None
    export_lacks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    answers: Mapping[str, Rows] = field(default_factory=dict)
    pending: bool = False
    missing_fingerprints: Mapping[str, str] = field(default_factory=dict)
    provenance: Provenance = field(default_factory=Provenance)
    seen: Mapping[str, str] = field(default_factory=dict)

    @property
    def plain_files(self) -> bool:
        """As in ``Part``."""
        return self.kind == PLAIN_FILES
