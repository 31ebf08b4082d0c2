"""Whether the folders of the settings are apart: stores, the workspace, and what is saved."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from scriptorium.sources.abilities import living_path, living_tree

if TYPE_CHECKING:
    from scriptorium.settings.models import Library, Settings

_ROOT = Path("/")
_OF_THE_SYSTEM = tuple(map(Path, ("/proc", "/sys", "/dev")))


def real(path: Path) -> Path:
    """The folder to which a path leads; the path itself if it does not exist."""
    try:
        return Path(os.path.realpath(path))
    except OSError:
        return path


def require_apart(settings: Settings) -> None:
    """``ValueError`` if two folders are the same, or if one is inside another that cannot contain it.

    Two stores in one folder would be one copy that looks like two. A store is never saved. A store or the workspace
    inside a source is left out of the backup.
    """
    ours = dict(_ours(settings))
    for library in settings.libraries.values():
        _require_different(library)
        for name, path in _sources(library):
            for folder, what in ours.items():
                if path == folder:
                    raise ValueError(f"the source '{name}' of {library.name} is {what}")
                if path.is_relative_to(folder):
                    raise ValueError(f"the source '{name}' of {library.name} lies inside {what}: {folder}")


def _ours(settings: Settings) -> Iterator[tuple[Path, str]]:
    """The folders that are ours, each with what it is."""
    seen: dict[Path, str] = {}
    elsewhere: dict[str, str] = {}
    for name, store in settings.stores.items():
        if store.folder is None:
            place = store.location("library/backup")
            if place in elsewhere:
                raise ValueError(f"the stores '{elsewhere[place]}' and '{name}' are the same place")
            elsewhere[place] = name
            continue
        folder = real(store.folder)
        if folder in seen:
            raise ValueError(f"the stores '{seen[folder]}' and '{name}' are the same folder")
        seen[folder] = name
        _require_usable(folder, f"the store '{name}'")
        yield folder, f"the store '{name}'"
    if settings.workspace is not None:
        folder = real(settings.workspace)
        _require_usable(folder, "the workspace")
        if folder in seen:
            raise ValueError(f"the workspace is the store '{seen[folder]}'; name another folder, or none")
        yield folder, "the workspace"


def _require_usable(folder: Path, what: str) -> None:
    """Refuse folders that cannot be intended. Whether a folder works is seen when it is used."""
    if folder == _ROOT:
        raise ValueError(f"{what} is the root of all folders; give it a folder of its own")
    if any(folder.is_relative_to(one) for one in _OF_THE_SYSTEM) and not folder.is_relative_to("/dev/shm"):  # noqa: S108
        raise ValueError(f"{what} is at {folder}, where the system keeps no files")


def _sources(library: Library) -> Iterator[tuple[str, Path]]:
    for source in library.sources:
        path = living_path(source)
        if path is not None:
            yield source.name, real(path)


def _require_different(library: Library) -> None:
    """Two sources that save the same would restore over each other."""
    seen: dict[object, str] = {}
    for source in library.sources:
        tree = living_tree(source)
        if tree is None:
            continue
        path = real(Path(tree.root))
        if path == _ROOT and not tree.include:
            raise ValueError(f"the source '{source.name}' is the root of all folders; name what of it is to be saved")
        same = (path, tree.include, tree.exclude)
        if same in seen:
            raise ValueError(f"the sources '{seen[same]}' and '{source.name}' of {library.name} are the same")
        seen[same] = source.name
