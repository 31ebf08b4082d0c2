"""The previous data that a restore put aside: recognised by fingerprints, so "back" is only reported if true."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol, runtime_checkable

Kept = Mapping[str, object]  # as JSON has it


class Whereabouts(StrEnum):
    """Where the previous data is now."""

    ASIDE = "put aside"
    PARTLY = "partly put aside"
    BACK = "back"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Previous:
    """Where the previous data of a part was found. ``what``: one line for people."""

    where: Whereabouts
    what: str

    @property
    def whole(self) -> bool:
        """Whether all of it is in one place: put aside, or back."""
        return self.where in (Whereabouts.ASIDE, Whereabouts.BACK)


@runtime_checkable
class Keeping(Protocol):
    """A part that is restored and can say whether the previous data is what it put aside."""

    def plan(self) -> Kept:
        """Just before ``switch``: how the data that it will put aside is recognised. The undo of a restore that was
        killed in the middle compares with it. Empty if the undo compares with the part's own record."""
        ...

    def kept(self) -> Kept:
        """After ``switch``: how the previous data is recognised. For the journal; no secret is in it."""
        ...

    def returned(self) -> bool:
        """Whether ``put_back`` was completed in an earlier process. The data may have been written to since then."""
        ...

    def put_back(self) -> None:
        """As ``undo``, but what ``returned`` looks at stays: an undo that is killed then can be finished later."""
        ...

    def previous(self, kept: Kept) -> Previous:
        """Where the previous data is now. ``kept``: what the journal recorded, empty for a restore of an earlier
        version. Changes nothing."""
        ...


@runtime_checkable
class Overwriting(Protocol):
    """A part whose undo writes over what is there, instead of putting it aside."""

    def give_up(self) -> None:
        """At the beginning of an undo: what is there now may be overwritten. It is recorded, so that an undo that is
        killed and finished later overwrites nothing that was written meanwhile."""
        ...


def whereabouts(kept: Kept, held: Callable[[Path], Path] | None, within: Callable[[Path], bool]) -> Previous:
    """Where the paths are that a switch put aside. ``held``: opens a path in the folder that they were put into;
    ``None`` if this folder is gone. ``within``: whether a path is in the living data."""
    folder, moves, came = kept["folder"], kept["moves"], kept["came"]
    assert isinstance(moves, list) and isinstance(came, list)
    found = {source: _where(Path(source), held and held(Path(target)), was) for source, target, was in moves}
    lost = [source for source, where in found.items() if where is Whereabouts.GONE]
    if lost:
        what = f"not what was put aside: {_some(lost)}"
        return Previous(Whereabouts.GONE, what if held else f"{what}; there is no {folder}")
    aside = [source for source, where in found.items() if where is Whereabouts.ASIDE]
    if outside := [source for source in aside if not within(Path(source))]:
        what = f"{outside[0]} is not in the living data as the settings name it now, or a link leads there"
        return Previous(Whereabouts.GONE, what)
    if aside and len(aside) < len(found):
        return Previous(Whereabouts.PARTLY, f"not in {folder}: {_some([one for one in found if one not in aside])}")
    if aside or (not moves and held):
        return Previous(Whereabouts.ASIDE, f"in {folder}")
    if left := [path for path in came if os.path.lexists(path)]:
        what = f"{left[0]} exists, and did not exist before the restore"
        return Previous(Whereabouts.GONE, what if moves else f"{what}, and {folder} is gone")
    return Previous(Whereabouts.BACK, "what was there before, by names, sizes and times")


def _where(source: Path, aside: Path | None, was: str | None) -> Whereabouts:
    """Where one path is. An undo would put back what is aside, so it must be what was there before the restore."""
    if aside is not None and (put := fingerprint(aside)) is not None:
        return Whereabouts.ASIDE if put == was else Whereabouts.GONE
    return Whereabouts.BACK if was is not None and fingerprint(source) == was else Whereabouts.GONE


def _some(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return f"{', '.join(paths[:3])}{more}"


def fingerprint(path: Path) -> str | None:
    """A hash of the names, kinds, sizes and times of all files at a path, which a rename does not change; ``None`` if
    nothing is there. Contents are not read."""
    top = os.fsencode(path)
    try:
        status = os.lstat(top)
    except OSError:
        return None
    digest = hashlib.sha256(_line(b"", status, top))
    if stat.S_ISDIR(status.st_mode):
        for line in _lines(top):
            digest.update(line)
    return digest.hexdigest()


def _lines(top: bytes) -> Iterator[bytes]:
    waiting = [b""]
    while waiting:
        inside = waiting.pop()
        try:
            with os.scandir(os.path.join(top, inside)) as entries:  # noqa: PTH118 -- bytes
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            yield b"%s\0unread %d\0" % (inside, error.errno or 0)
            continue
        for entry in found:
            relative = b"%s/%s" % (inside, entry.name) if inside else entry.name
            yield _line(relative, entry.stat(follow_symlinks=False), entry.path)
            if entry.is_dir(follow_symlinks=False):
                waiting.append(relative)


def _line(name: bytes, status: os.stat_result, path: bytes) -> bytes:
    if stat.S_ISDIR(status.st_mode):
        return b"%s\0folder\0" % name
    if stat.S_ISLNK(status.st_mode):
        return b"%s\0link\0%s\0" % (name, os.readlink(path))  # noqa: PTH115
    return b"%s\0%o\0%d\0%d\0" % (name, stat.S_IFMT(status.st_mode), status.st_size, status.st_mtime_ns)
