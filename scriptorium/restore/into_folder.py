"""Restore into a folder: the data is prepared beside it, compared, and then put in its place by one rename.

The folder may lie where others may write (``/tmp``). So everything that we make there is new, accessible only to us,
and held open. Of what exists already, only our own folders, with our marker or lock, are used or removed.
"""

from __future__ import annotations

import dataclasses
import fcntl
import glob
import logging
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from scriptorium.errors import RestoreFailed, Untrusted, UsageError
from scriptorium.fs import ours
from scriptorium.fs.descriptors import require_ours
from scriptorium.fs.free_space import require_space
from scriptorium.fs.mounts import mounted_in
from scriptorium.fs.owners import Ownership
from scriptorium.fs.places import Places, real_path
from scriptorium.fs.removal import empty, remove_tree
from scriptorium.fs.system_errors import advice, reason_of
from scriptorium.model import Part
from scriptorium.progress import Advance
from scriptorium.restore.supply import (
    Restored,
    Supply,
    compared,
    lacking,
    load_parts,
    read_parts,
    restore_warnings,
    wanted,
)
from scriptorium.sources import Source, made_for
from scriptorium.umask import users_folders

log = logging.getLogger(__name__)

# Only twelve hex digits follow; the names of a restore in place also contain the name of the source.
_STAGE = ".scriptorium-restore-"
_PREVIOUS = ".scriptorium-former-"  # the name on disk since the first version


def restore_into(
    supply: Supply,
    target: Path,
    restore_id: str,
    *,
    sources: Mapping[str, Source] | None = None,
    clean: bool = False,
    never: Sequence[Path] = (),
    advance: Advance | None = None,
) -> Restored:
    """Restore into ``target``, which must be empty or not exist, unless ``clean`` allows it to be replaced.

    ``sources``: by name, where a part needs settings (an older engine); others are made from the part itself.
    ``never``: what must not be replaced together with the target (the stores, the living data).
    Raises ``UsageError``, ``NoSpace``, ``DamageFound``; the target is then as it was.
    """
    target = target.absolute()
    check_target(target, clean, never)
    began = time.monotonic()
    log.info("restore into %s begins%s", target, "; the folder is replaced" if clean else "")
    with closing(Places()) as places:
        try:
            target = real_path(target.parent) / target.name
            with users_folders():
                places.make_folders(target.parent, 0o777)
        except OSError as error:
            raise UsageError(
                f"the folder to restore to cannot be made: {reason_of(error)}",
                on=str(target),
                hint=advice(error, target),
            ) from error
        _clear_previous_attempts(places, target)
        _require_space(target, supply)
        stage = _stage(target, restore_id)
        with _made(places, stage) as held:
            try:
                restored = _read(supply, stage, restore_id, sources or {}, target, advance)
                warnings = _put(places, stage, held, target, supply.options.ownership)
            except BaseException:
                with suppress(OSError):
                    _drop(places, stage, held)
                raise
    took = time.monotonic() - began
    log.info("restore into %s: %d files, %d bytes in %.1f s", target, restored.files, restored.bytes, took)
    return dataclasses.replace(restored, warnings=(*restored.warnings, *warnings))


def check_target(target: Path, clean: bool, never: Sequence[Path] = ()) -> None:
    """``UsageError`` unless the target is a folder that may be filled."""
    if os.path.lexists(target) and (target.is_symlink() or not target.is_dir()):
        raise UsageError("the place to restore to is not a folder", on=str(target))
    if not target.is_dir() or not any(target.iterdir()):
        return
    if not clean:
        raise UsageError(
            "the folder to restore to is not empty", on=str(target), hint="choose another, or replace it with --clean"
        )
    real = Path(os.path.realpath(target))
    for path in never:
        if os.path.lexists(path) and Path(os.path.realpath(path)).is_relative_to(real):
            raise UsageError(
                f"the folder to replace is, or contains, {path}",
                on=str(target),
                hint="choose another; without --restore-path the living data is replaced",
            )
    for point in mounted_in(target):
        if point != real:
            raise UsageError("something is mounted inside the folder to replace", on=str(point), hint="unmount it")


def _stage(target: Path, restore_id: str) -> Path:
    """Beside the target, or inside it if the target is a filesystem of its own."""
    return (target if is_mounted(target) else target.parent) / f"{_STAGE}{restore_id}"


def _previous_place(target: Path, restore_id: str) -> Path:
    """Our folder that holds the previous contents of the target during the switch."""
    return target.with_name(f"{_PREVIOUS}{restore_id}")


@contextmanager
def _made(places: Places, folder: Path) -> Iterator[int]:
    """A new folder that only we may enter, open and locked. While we run, the lock shows others that it is in use."""
    places.make_folder(folder, 0o700)
    with places.folder(folder) as held:
        require_ours(held, folder)
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield held


@contextmanager
def _unused(places: Places, folder: Path) -> Iterator[int | None]:
    """A folder that a killed restore left, open and locked; ``None`` if it is in use, or not ours."""
    with ExitStack() as stack:
        held: int | None = None
        with suppress(OSError, Untrusted):
            found = stack.enter_context(places.folder(folder))
            require_ours(found, folder)
            fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = found
        yield held


def _drop(places: Places, folder: Path, held: int) -> None:
    """Remove a folder of ours with everything in it, whatever its name is now."""
    empty(held, last=ours.MARKER)
    with suppress(OSError):  # somebody moved it: an empty folder remains
        places.remove_folder(folder)


def is_mounted(target: Path) -> bool:
    """Whether the target is a filesystem of its own: then everything is prepared inside it."""
    return target.is_dir() and (
        target.stat().st_dev != target.parent.stat().st_dev or Path(os.path.realpath(target)) in mounted_in(target)
    )


def _clear_previous_attempts(places: Places, target: Path) -> None:
    """Clean up after killed restores: put back a target that was about to be replaced, and remove everything else."""
    for previous in sorted(target.parent.glob(f"{_PREVIOUS}????????????")):
        with _unused(places, previous) as held:
            if held is None or not ours.has_marker(held, previous.name):
                continue
            inside = set(os.listdir(held)) - {ours.MARKER}  # noqa: PTH208 -- a descriptor, not a path
            if inside - {target.name}:  # of another target
                continue
            if inside and not places.there(target):
                log.warning("%s: a restore was cut short; its previous contents are put back", target)
                places.rename(previous / target.name, target)
            _drop(places, previous, held)
    _clear_what_earlier_versions_left(target)
    for folder in {target.parent, target} if target.is_dir() else {target.parent}:
        for stage in folder.glob(f"{_STAGE}????????????"):
            with _unused(places, stage) as held:
                if held is not None:
                    log.info("%s: left by a restore that was cut short, is removed", stage)
                    _drop(places, stage, held)


def _clear_what_earlier_versions_left(target: Path) -> None:
    """A previous target without a marker: it is used only if nobody else can have put it there."""
    if ours.others_may_write(target.parent):
        return
    for previous in target.parent.glob(f"{_PREVIOUS}????????????-{glob.escape(target.name)}"):
        if os.path.lexists(target):
            remove_tree(previous)
        else:
            previous.rename(target)


def _require_space(target: Path, supply: Supply) -> None:
    needed = sum(part.allocated for part in supply.manifest.parts)
    if not supply.only:
        require_space(target, needed, "the restore", "free some space")


def _read(
    supply: Supply,
    stage: Path,
    restore_id: str,
    sources: Mapping[str, Source],
    target: Path,
    advance: Advance | None,
) -> Restored:
    incoming = {
        part.source: source_of(part, sources, stage).incoming(
            part, restore_id, into=stage, options=supply.options, partial=bool(supply.only)
        )
        for part in wanted(supply)
    }
    for one in incoming.values():
        one.prepare()
    read = read_parts(supply, incoming, [stage], advance=advance)
    tables, comparison = compared(supply, incoming, load_parts(supply, incoming, read.parts))
    for source, one in incoming.items():
        if source in read.parts:
            one.switch()
        one.finish()
    warnings = restore_warnings(incoming, supply.manifest.parts)
    lacks = lacking(part for part in supply.manifest.parts if part.source in read.parts)
    return Restored(
        str(target),
        read.files,
        read.bytes,
        tables,
        read.parts,
        warnings,
        comparison,
        lacking=lacks,
        unset=read.unset,
    )


def source_of(part: Part, sources: Mapping[str, Source], stage: Path) -> Source:
    """The source of a part: from the settings, else made from what the part records."""
    known = sources.get(part.source)
    if known is not None and known.kind == part.kind:
        return known
    return made_for(part, stage / part.path)


def _put(places: Places, stage: Path, held: int, target: Path, owner: Ownership) -> tuple[str, ...]:
    """Make the staged folder the target; the previous one is kept until the new one is in place. Returns warnings."""
    if stage.parent == target:
        _put_inside(places, stage, target)
        with places.folder(target) as mounted:
            return _give(mounted, target, owner)
    like, warnings = places.lstat(target), _give(held, target, owner)
    if like is None:
        places.rename(stage, target)
    else:
        previous = _previous_place(target, stage.name.removeprefix(_STAGE))
        with _made(places, previous) as kept:
            ours.write_marker(kept, previous.name.removeprefix(_PREVIOUS))
            _exchange(places, stage, target, previous / target.name, kept)
            warnings = (*warnings, *_keep_attributes(held, like, target, owner))
            _drop(places, previous, kept)
    places.sync(target.parent)
    return warnings


def _exchange(places: Places, stage: Path, target: Path, aside: Path, kept: int) -> None:
    try:
        places.rename(target, aside)
        places.rename(stage, target)
    except BaseException:
        log.warning("%s: the switch failed; the previous contents are put back", target)
        if places.there(aside):
            places.rename(aside, target)
        _drop(places, aside.parent, kept)
        raise


def _give(held: int, target: Path, owner: Ownership) -> tuple[str, ...]:
    """Give the folder itself to the owner that was chosen for everything in it; returns warnings."""
    if owner.given is None:
        return ()
    try:
        os.fchown(held, *owner.given)
    except OSError as error:
        return (f"{target}: the owner could not be set ({error.strerror})",)
    return ()


def _keep_attributes(held: int, like: os.stat_result, target: Path, owner: Ownership) -> tuple[str, ...]:
    """Give the new folder the mode and owner of the previous one, if we own that or nobody else can have made it."""
    if like.st_uid != os.geteuid() and ours.others_may_write(target.parent):
        return (f"{target}: is yours alone now; it belonged to user {like.st_uid}, in a folder where others may write",)
    if os.geteuid() == 0 and owner.given is None:
        os.fchown(held, like.st_uid, like.st_gid)
    os.fchmod(held, stat.S_IMODE(like.st_mode))
    return ()


def _put_inside(places: Places, stage: Path, target: Path) -> None:
    """As ``_put``, entry by entry, for a target that is a filesystem of its own."""
    previous = target / f"{_PREVIOUS}{stage.name.removeprefix(_STAGE)}"
    with _made(places, previous) as kept:
        moved: list[tuple[Path, Path]] = []
        try:
            for source, goal in ((target, previous), (stage, target)):
                for entry in sorted(source.iterdir()):
                    if entry in (stage, previous):
                        continue
                    places.rename(entry, goal / entry.name)
                    moved.append((entry, goal / entry.name))
        except BaseException as error:
            for was, now in reversed(moved):
                places.rename(now, was)
            places.remove_folder(previous)
            if isinstance(error, OSError):
                raise RestoreFailed(
                    f"the switch failed: {reason_of(error)}", on=str(target), hint=advice(error)
                ) from error
            raise
        places.sync(target)
        places.remove_folder(stage)
        _drop(places, previous, kept)
