"""The abilities that only some sources, or parts that are restored, have: the one place that asks for them.

The callers need not know which kinds have an ability. Each function returns a default for a source without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from scriptorium.fs.in_use import Look
from scriptorium.model import Finding, Holder, Part, Tree
from scriptorium.sources.base import Incoming, Source
from scriptorium.sources.optional import (
    Adopting,
    Checkable,
    Claiming,
    Dumpable,
    Exclusive,
    FileTree,
    LeavingOut,
    NeedsScratch,
    OnDisk,
    PartlyRead,
    Pausable,
    Rehearsable,
    Remaking,
    Renamable,
    Streamable,
    Tabular,
    TakesDumps,
    Tidyable,
    Waiting,
)

_NOTHING: Mapping[str, str] = MappingProxyType({})


def living_tree(source: Source) -> Tree | None:
    """Where its living files are and which are saved; ``None`` for a database on a server."""
    return source.tree() if isinstance(source, OnDisk) else None


def living_path(source: Source) -> Path | None:
    """The file or folder of its living data; ``None`` for a database on a server."""
    tree = living_tree(source)
    return Path(tree.root) if tree is not None else None


def claims_of(source: Source) -> tuple[Path, ...]:
    """The files that belong to it alone."""
    return source.claims() if isinstance(source, Claiming) else ()


def pausable(source: Source) -> Pausable | None:
    """The source when its application may be paused for a copy."""
    return source if isinstance(source, Pausable) and source.quiesce is not None else None


def streamable(source: Source) -> Streamable | None:
    """The source when it can be read straight into an archive."""
    return source if isinstance(source, Streamable) else None


def looks_at(sources: Iterable[Source]) -> tuple[Look, ...]:
    """A check of each source that must not be replaced while it is open."""
    return tuple(one.in_use() for one in sources if isinstance(one, Exclusive))


def blocking_holders(sources: Iterable[Source]) -> list[Holder]:
    """Processes that have a source open which must not be replaced then."""
    return [holder for one in sources if isinstance(one, Exclusive) for holder in one.holders()]


def has_exclusive(sources: Iterable[Source]) -> bool:
    """Whether any of them must not be replaced while its application has it open."""
    return any(isinstance(one, Exclusive) for one in sources)


def tabular(source: Source) -> Tabular | None:
    """The source when its tables can be read from an archive."""
    return source if isinstance(source, Tabular) else None


def file_tree(source: Source) -> FileTree | None:
    """The source when it is a tree of files."""
    return source if isinstance(source, FileTree) else None


def adopting(source: Source) -> Adopting | None:
    """The source when its database can be taken out of another program's backup."""
    return source if isinstance(source, Adopting) else None


def takes_dumps(source: Source) -> TakesDumps | None:
    """The source when it loads dumps of other programs."""
    return source if isinstance(source, TakesDumps) else None


def dumpable(source: Source) -> Dumpable | None:
    """The source when it can be written to one file."""
    return source if isinstance(source, Dumpable) else None


def renamed(source: Source, name: str) -> Source | None:
    """The same source, restored under another name; ``None`` where that is not possible."""
    return source.renamed(name) if isinstance(source, Renamable) else None


def rehearsal(source: Source, part: Part, drill_id: str, scratch: Path) -> Incoming:
    """What restores a part for a drill: most kinds restore into the folder ``scratch``."""
    if isinstance(source, Rehearsable):
        return source.rehearsal(part, drill_id, scratch)
    return source.incoming(part, drill_id, into=scratch)


def tidy(source: Source) -> tuple[str, ...]:
    """Remove what its restores and drills left behind; returns the names."""
    return source.tidy() if isinstance(source, Tidyable) else ()


def with_scratch(source: Source, scratch: Path) -> Source:
    """The same source; its restores unpack into this folder of ours, outside its living data."""
    return source.with_scratch(scratch) if isinstance(source, NeedsScratch) else source


def missing_fingerprints(incoming: Incoming) -> Mapping[str, str]:
    """The tables of a loaded part of which no fingerprint could be taken, and why."""
    return incoming.missing_fingerprints if isinstance(incoming, PartlyRead) else _NOTHING


def rebuilt_views(incoming: Incoming) -> Mapping[str, str]:
    """What a loaded part made new and may differ, and why that is no damage."""
    return incoming.rebuilt_views if isinstance(incoming, Remaking) else _NOTHING


def warnings_of(incoming: Incoming) -> tuple[str, ...]:
    """What a part left out, by name."""
    return incoming.warnings if isinstance(incoming, LeavingOut) else ()


def check(incoming: Incoming) -> tuple[Finding, ...] | None:
    """What is wrong with a loaded database by its own checks; ``None`` where it has none."""
    return incoming.check() if isinstance(incoming, Checkable) else None


def waits_for(incoming: Incoming) -> str:
    """The program that must load the restored dump; empty if nothing has to be loaded."""
    return incoming.loader if isinstance(incoming, Waiting) else ""


__all__ = [
    "adopting",
    "blocking_holders",
    "check",
    "claims_of",
    "dumpable",
    "file_tree",
    "has_exclusive",
    "living_path",
    "living_tree",
    "looks_at",
    "missing_fingerprints",
    "pausable",
    "rebuilt_views",
    "rehearsal",
    "renamed",
    "streamable",
    "tabular",
    "takes_dumps",
    "tidy",
    "waits_for",
    "warnings_of",
    "with_scratch",
]
