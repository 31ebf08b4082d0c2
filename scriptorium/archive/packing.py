"""Packing: the staged parts into one archive, in one pass over every file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from scriptorium.archive.writer import ArchiveWriter
from scriptorium.members.streams import Stream
from scriptorium.members.walk import Judge, walk
from scriptorium.model import Manifest, Staged
from scriptorium.progress import Advance
from scriptorium.words import Compression


def pack(
    target: Path,
    draft: Manifest,
    staged: Sequence[Staged],
    compression: Compression,
    *,
    spool: Path,
    streams: Sequence[Stream] = (),
    judge: Judge | None = None,
    advance: Advance | None = None,
) -> Manifest:
    """Write the archive ``target`` and return the finished manifest: ``walk`` with an ``ArchiveWriter`` alone."""
    with ArchiveWriter(target, compression, spool) as writer:
        inner = walk(draft, staged, [writer], spool=spool, streams=streams, judge=judge, advance=advance)
    return dataclasses.replace(inner, archive=writer.record)
