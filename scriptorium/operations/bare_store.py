"""A store by its address alone, on a machine that has nothing else: what is in it, and settings made from that."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel

from scriptorium.catalog import Catalog
from scriptorium.errors import NotFound, ScriptoriumError, UsageError
from scriptorium.fs import atomic
from scriptorium.model import Backup, LibraryFound, Manifest, Part, StoreFound
from scriptorium.settings import Settings, use
from scriptorium.sources import living_place
from scriptorium.stores.addresses import store_at


def use_store_at(url: str, *, password_file: Path | None = None, identity: Path | None = None) -> Settings:
    """Make the store at this address the only one of this process; it has no libraries, so nothing is restored in
    place. Returns its settings."""
    store = store_at(url, password_file=password_file, identity=identity)
    settings = Settings(libraries={}, stores={store.name: store}, origin=f"the store {store.name} by its address")
    use(settings)
    return settings


def _require_place(settings: Settings) -> None:
    """``NotFound`` if the folder of the store does not exist: looking for backups makes none."""
    (store,) = settings.stores.values()
    if store.folder is not None and not store.folder.exists():
        what = "no backup is in this store: its folder does not exist"
        raise NotFound(what, on=str(store.folder), hint="check the address")


def library_in(settings: Settings, library: str | None) -> str:
    """The library whose newest backup is meant: the named one, or the only one of the store. ``NotFound``."""
    names = sorted({backup.library for backup in _backups(settings)})
    if library is not None and library in names:
        return library
    if library is None and len(names) == 1:
        return names[0]
    what = "the store has no backup of this library" if library else "the store has several libraries; say which"
    raise NotFound(what, on=library or "", hint=f"--library with one of: {', '.join(names)}")


def _backups(settings: Settings) -> Sequence[Backup]:
    """Every backup of the store. ``NotFound`` if there is none; the error of a store that does not answer."""
    _require_place(settings)
    (store,) = settings.stores.values()
    for _ in store.list():  # a store that does not answer raises its own error
        break
    found = Catalog(settings).backups(records=False)
    if not found:
        raise NotFound("no backup is in this store", on=store.name, hint="check the address: bucket, prefix, folder")
    return found


def look(settings: Settings, *, settings_file: Path | None = None) -> StoreFound:
    """Rebuild the index of the store from its manifests, and list what is in it by library."""
    _require_place(settings)
    (store,) = settings.stores.values()
    copies = Catalog(settings).rebuild()
    backups = _backups(settings)
    names = sorted({backup.library for backup in backups})
    libraries = [_library(settings, [one for one in backups if one.library == name]) for name in names]
    if settings_file is not None:
        write_settings(settings, libraries, settings_file)
    return StoreFound(store.kind, copies, tuple(libraries), settings_file)


def _library(settings: Settings, backups: Sequence[Backup]) -> LibraryFound:
    """``backups``: of one library, newest first."""
    good = [backup for backup in backups if backup.status.good]
    newest = (good or backups)[0]
    manifest = _manifest(settings, newest)
    proofs = [copy.proven_at for backup in backups for copy in backup.copies if copy.proven_at is not None]
    return LibraryFound(
        newest.library,
        manifest.preset if manifest else None,
        len(backups),
        newest.id,
        newest.created_at,
        len({backup.id for backup in backups if any(copy.proven_at for copy in backup.copies)}),
        max(proofs, default=None),
        manifest.archive.recipients if manifest and manifest.archive else (),
        tuple((part.source, part.kind, part.path) for part in _largest(settings, good or backups)),
    )


def _largest(settings: Settings, backups: Sequence[Backup]) -> Sequence[Part]:
    """The parts of the newest backup that has the most of them: one of the configuration alone does not name all."""
    most = max(backups, key=lambda backup: (len(backup.parts), backup.created_at))
    manifest = _manifest(settings, most)
    return manifest.parts if manifest else ()


def _manifest(settings: Settings, backup: Backup) -> Manifest | None:
    for copy in backup.copies:
        try:
            return Catalog(settings).manifest(copy)
        except ScriptoriumError:
            continue
    return None


def write_settings(settings: Settings, libraries: Sequence[LibraryFound], file: Path) -> None:
    """Write a settings file with the store and the libraries. ``UsageError`` if the file exists."""
    if file.exists():
        raise UsageError("this file exists", on=str(file), hint="choose another name; it is not overwritten")
    with atomic.beside(file.absolute()) as partial, atomic.new_file(partial) as stream:
        stream.write(settings_text(settings, libraries).encode())


def settings_text(settings: Settings, libraries: Sequence[LibraryFound]) -> str:
    """The settings as TOML. A backup does not record where its library was: the paths are folders beside the file."""
    lines = ["# Made from the manifests of a store. They do not record where the libraries were:"]
    lines += ["# a restore in place fills the paths below. Change them to the places of your applications first.", ""]
    for name, store in settings.stores.items():
        assert isinstance(store, BaseModel)
        table = store.model_dump(mode="json", exclude_defaults=True, exclude={"name", "age", "lock"})
        lines += [f"[stores.{_text(name)}]", f"kind = {_text(store.kind)}", *_lines(table), ""]
        if (age := getattr(store, "age", None)) is not None:
            lines += [f"[stores.{_text(name)}.age]", *_lines(age.model_dump(mode="json", exclude_defaults=True)), ""]
    for library in libraries:
        if library.preset:
            lines.append(f'# preset = "{library.preset}" and a home replace the sources (docs: presets)')
        lines += [f"[libraries.{_text(library.name)}]", "sources = ["]
        lines += [f"  {{ {_source(library.name, *part)} }}," for part in library.parts]
        lines += ["]", ""]
    return "\n".join(lines)


def _source(library: str, name: str, kind: str, path: str) -> str:
    where = living_place(kind, f"{library}/{path}" if path else library, library)
    table = {"name": name, "kind": kind, **where, "at": path}
    return ", ".join(f"{key} = {_text(value)}" for key, value in table.items())


def _lines(table: Mapping[str, object]) -> list[str]:
    return [f"{name} = {_value(value)}" for name, value in table.items() if name != "kind"]


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_text(str(name))} = {_value(one)}' for name, one in value.items())} }}"
    return json.dumps(value, ensure_ascii=False)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
