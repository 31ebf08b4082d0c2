"""The space that a restore in place needs on each filesystem before its switch: for the staged data, according to the
manifest, and for the safety backup, which is taken before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from scriptorium.errors import ScriptoriumError
from scriptorium.fs.free_space import nearest_folder
from scriptorium.model import Manifest, Part, Survey
from scriptorium.restore.supply import Supply, part_of
from scriptorium.settings import Library, Settings
from scriptorium.sources import Incoming, Source
from scriptorium.words import Tier
from scriptorium.workspace.space import find_space

Surveys = Mapping[str, Survey | ScriptoriumError]  # by source


def staged_sizes(supply: Supply, sources: Mapping[str, Source], restore_id: str) -> Iterator[tuple[Path, int]]:
    """For each part that is staged on a disk of ours: a folder there, and the bytes that will be written to it."""
    incoming = {
        part.source: sources[part.source].incoming(part, restore_id, options=supply.options, partial=bool(supply.only))
        for part in supply.manifest.parts
        if part.source in sources
    }
    chosen = _chosen(supply, incoming)
    for part in supply.manifest.parts:
        one = incoming.get(part.source)
        place = one and (one.receive(part.path) or (one.receive(part.export) if part.export else None))
        if place:
            built = one is not None and part.export is not None and one.receive(part.export) is not None
            whole = chosen is None or built  # the export, and the database that is made from it
            if chosen is None or whole:
                yield nearest_folder(place), part.allocated
            else:
                yield nearest_folder(place), max(0, chosen[part.source] - (0 if supply.only else part.holes))


def _chosen(supply: Supply, incoming: Mapping[str, Incoming]) -> dict[str, int] | None:
    """By source, the bytes of the members that will be unpacked; ``None`` if the manifest does not list the members."""
    if supply.manifest.files.entries is None:
        return None
    sizes = dict.fromkeys(incoming, 0)
    for path, size, part in _members(supply.manifest):
        if part.source not in incoming or (part.tables is None and not supply.wants(path)):
            continue  # a database is always restored completely
        if incoming[part.source].receive(path) is not None:
            sizes[part.source] += size
    return sizes


def _members(manifest: Manifest) -> Iterator[tuple[str, int, Part]]:
    for entry in manifest.files.entries or ():
        part = part_of(entry.path, manifest.parts) if entry.size else None
        if part is not None:
            yield entry.path, entry.size, part


def survey_each(settings: Settings, library: Library) -> Surveys:
    """Survey every source of the library once: its size, or the error."""
    found: dict[str, Survey | ScriptoriumError] = {}
    for source in library.sources:
        try:
            found[source.name] = source.survey(settings.never_of(library, source))
        except ScriptoriumError as error:
            found[source.name] = error
    return found


def known(surveys: Surveys, names: Iterable[str]) -> dict[str, Survey]:
    """The surveys of these sources. If one of them failed, its error is raised."""
    chosen: dict[str, Survey] = {}
    for name in names:
        one = surveys[name]
        if isinstance(one, ScriptoriumError):
            raise one
        chosen[name] = one
    return chosen


def saved_sizes(settings: Settings, library: Library, surveys: Surveys) -> list[tuple[Path, int]]:
    """For each local store that gets the safety backup: a folder there, and about how many bytes it will take.

    ``NoSpace`` if it does not fit; other errors (a database that is gone) are raised as well.
    """
    stores = settings.targets(Tier.BEFORE_RESTORE)
    sources = [source.name for source in library.sources_of(settings.type_of(Tier.BEFORE_RESTORE))]
    names = [store.name for store in stores]
    copies = find_space(settings, library, sources, names, surveys=known(surveys, sources)).copies
    return [(nearest_folder(store.folder), copies[store.name]) for store in stores if store.folder is not None]
