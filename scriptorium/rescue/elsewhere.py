"""Restoring into a folder: prepared beside it, compared, then put there by one rename."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from scriptorium.errors import NoSpace, RestoreFailed, UsageError
from scriptorium.model import Part
from scriptorium.rescue.reading import Advance, Restored, Supply, load_parts, read_parts
from scriptorium.sources import Source, made_for


def restore_into(
    supply: Supply,
    target: Path,
    restore_id: str,
    *,
    sources: Mapping[str, Source] | None = None,
    clean: bool = False,
    advance: Advance | None = None,
) -> Restored:
    """Restore into ``target``, which must be empty or not exist, unless ``clean`` allows it to be replaced.

    ``sources``: by name, where a part needs settings (an older engine); others are made from the part itself.
    Raises ``UsageError``, ``NoSpace``, ``DamageFound``; the target is then as it was.
    """
    target = target.absolute()
    check_target(target, clean)
    target.parent.mkdir(parents=True, exist_ok=True)
    _room(target, supply)
    stage = _stage(target, restore_id)
    if stage.exists():
        shutil.rmtree(stage)
    stage.mkdir(mode=0o700)
    try:
        restored = _read(supply, stage, restore_id, sources or {}, target, advance)
        _put(stage, target)
    except BaseException:
        with suppress(OSError):
            shutil.rmtree(stage)
        raise
    return restored


def check_target(target: Path, clean: bool) -> None:
    """``UsageError`` unless the target is a folder that may be filled."""
    if os.path.lexists(target) and (target.is_symlink() or not target.is_dir()):
        raise UsageError("the place to restore to is not a folder", on=str(target))
    if target.is_dir() and any(target.iterdir()) and not clean:
        raise UsageError(
            "the folder to restore to is not empty", on=str(target), hint="choose another, or replace it with --clean"
        )


def _stage(target: Path, restore_id: str) -> Path:
    """Beside the target, or inside it where that is a filesystem of its own."""
    own = target.is_dir() and target.stat().st_dev != target.parent.stat().st_dev
    return (target if own else target.parent) / f".scriptorium-restore-{restore_id}"


def _room(target: Path, supply: Supply) -> None:
    needed = sum(part.bytes for part in supply.manifest.parts)
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
        for part in supply.manifest.parts
    }
    for one in incoming.values():
        one.prepare()
    read = read_parts(supply, incoming, [stage], advance=advance)
    tables = load_parts(supply, incoming, read.parts)
    for source, one in incoming.items():
        if source in read.parts:
            one.switch()
        one.finish()
    return Restored(str(target), read.files, read.bytes, tables, read.parts)


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
        former = stage.with_name(f"{stage.name}.former")
        target.rename(former)
        try:
            stage.rename(target)
        except OSError:
            former.rename(target)
            raise
        shutil.rmtree(former)
    _sync(target.parent)


def _put_inside(stage: Path, target: Path) -> None:
    former = target / f"{stage.name}.former"
    former.mkdir(mode=0o700)
    moved: list[tuple[Path, Path]] = []
    try:
        for source, goal in ((target, former), (stage, target)):
            for entry in sorted(source.iterdir()):
                if entry in (stage, former):
                    continue
                entry.rename(goal / entry.name)
                moved.append((entry, goal / entry.name))
    except OSError as error:
        for was, now in reversed(moved):
            now.rename(was)
        raise RestoreFailed(f"the switch failed: {error.strerror}", on=str(target)) from error
    _sync(target)
    stage.rmdir()
    shutil.rmtree(former)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
