"""Restoring into a folder: prepared beside it, compared, then put there by one rename."""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from scriptorium.errors import NoSpace, RestoreFailed, UsageError
from scriptorium.model import Part
from scriptorium.removal import remove_tree
from scriptorium.rescue.reading import Advance, Restored, Supply, load_parts, read_parts, told, wanted
from scriptorium.sources import Source, made_for
from scriptorium.sources.mounts import mounted_in
from scriptorium.system_errors import advice, said
from scriptorium.umask import make_folders

# Twelve hex digits alone follow; what a restore in place stages has its source's name as well.
_STAGE = ".scriptorium-restore-"
_FORMER = ".scriptorium-former-"


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
    ``never``: what is not replaced with the target (the stores, the living data).
    Raises ``UsageError``, ``NoSpace``, ``DamageFound``; the target is then as it was.
    """
    target = target.absolute()
    check_target(target, clean, never)
    try:
        make_folders(target.parent)
    except OSError as error:
        raise UsageError(
            f"the folder to restore to cannot be made: {said(error)}", on=str(target), hint=advice(error, target)
        ) from error
    _clear_former_tries(target)
    _room(target, supply)
    stage = _stage(target, restore_id)
    stage.mkdir(mode=0o700)
    held = os.open(stage, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # how others know that it is in use; freed when we die
        restored = _read(supply, stage, restore_id, sources or {}, target, advance)
        _put(stage, target)
    except BaseException:
        with suppress(OSError):
            remove_tree(stage)
        raise
    finally:
        os.close(held)
    return restored


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
                f"the folder to replace is, or holds, {path}",
                on=str(target),
                hint="choose another; without --restore-path the living data is replaced",
            )
    for point in mounted_in(target):
        if point != real:
            raise UsageError("something is mounted inside the folder to replace", on=str(point), hint="unmount it")


def _stage(target: Path, restore_id: str) -> Path:
    """Beside the target, or inside it where that is a filesystem of its own."""
    return (target if _is_mounted(target) else target.parent) / f"{_STAGE}{restore_id}"


def _former(target: Path, restore_id: str) -> Path:
    """Where what the target held goes for the moment of the switch."""
    return target.with_name(f"{_FORMER}{restore_id}-{target.name}")


def _is_mounted(target: Path) -> bool:
    return target.is_dir() and (
        target.stat().st_dev != target.parent.stat().st_dev or Path(os.path.realpath(target)) in mounted_in(target)
    )


def _clear_former_tries(target: Path) -> None:
    """What restores that were killed left: a target that was about to be replaced goes back, the rest goes away."""
    for former in target.parent.glob(f"{_FORMER}????????????-{glob.escape(target.name)}"):
        if os.path.lexists(target):
            remove_tree(former)
        else:
            former.rename(target)
    for folder in {target.parent, target} if target.is_dir() else {target.parent}:
        for stage in folder.glob(f"{_STAGE}????????????"):
            with suppress(OSError):
                held = os.open(stage, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    remove_tree(stage)
                finally:
                    os.close(held)


def _room(target: Path, supply: Supply) -> None:
    needed = sum(part.room for part in supply.manifest.parts)
    free = shutil.disk_usage(target if target.exists() else target.parent).free
    if needed > free and not supply.only:
        raise NoSpace(f"the restore needs {needed:,} bytes, there are {free:,}", on=str(target), hint="free some room")


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
            part, restore_id, into=stage, rebuild=supply.rebuild, partial=bool(supply.only)
        )
        for part in wanted(supply)
    }
    for one in incoming.values():
        one.prepare()
    read = read_parts(supply, incoming, [stage], advance=advance)
    tables, compared = load_parts(supply, incoming, read.parts)
    for source, one in incoming.items():
        if source in read.parts:
            one.switch()
        one.finish()
    warnings = (*read.warnings, *told(incoming, supply.manifest.parts))
    return Restored(str(target), read.files, read.bytes, tables, read.parts, warnings, compared)


def source_of(part: Part, sources: Mapping[str, Source], stage: Path) -> Source:
    """The source of a part: as the settings have it, else made of what the part says."""
    known = sources.get(part.source)
    if known is not None and known.kind == part.kind:
        return known
    return made_for(part, stage / part.path)


def _put(stage: Path, target: Path) -> None:
    """Make the staged folder the target; a former one is kept until the new one is in place."""
    if stage.parent == target:
        _put_inside(stage, target)
        return
    if not target.exists():
        stage.rename(target)
    else:
        _dress_like(stage, target)
        former = _former(target, stage.name.removeprefix(_STAGE))
        target.rename(former)
        try:
            stage.rename(target)
        except BaseException:
            former.rename(target)
            raise
        remove_tree(former)
    _sync(target.parent)


def _dress_like(stage: Path, target: Path) -> None:
    """A folder that somebody made ready keeps its mode and owner."""
    like = target.stat()
    if os.geteuid() == 0:
        os.chown(stage, like.st_uid, like.st_gid)
    stage.chmod(stat.S_IMODE(like.st_mode))


def _put_inside(stage: Path, target: Path) -> None:
    """The same in a target that is a filesystem of its own: entry by entry."""
    former = target / f"{_FORMER}{stage.name.removeprefix(_STAGE)}"
    former.mkdir(mode=0o700)
    moved: list[tuple[Path, Path]] = []
    try:
        for source, goal in ((target, former), (stage, target)):
            for entry in sorted(source.iterdir()):
                if entry in (stage, former):
                    continue
                entry.rename(goal / entry.name)
                moved.append((entry, goal / entry.name))
    except BaseException as error:
        for was, now in reversed(moved):
            now.rename(was)
        former.rmdir()
        if isinstance(error, OSError):
            raise RestoreFailed(f"the switch failed: {said(error)}", on=str(target), hint=advice(error)) from error
        raise
    _sync(target)
    stage.rmdir()
    remove_tree(former)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
