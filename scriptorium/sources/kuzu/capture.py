"""Copies of a Kuzu database: made in the workspace and read there, hot (repeated until one is good) or paused.

The copied files, the database and its WAL, go into the archive. Reading them changes nothing, and their hashes are
recorded. A copy that could not be read because of too little memory is still consistent, by the protocol: it counts,
and records which fingerprints are missing.
"""

from __future__ import annotations

import hashlib
import logging
import random
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from scriptorium.errors import SnapshotBusy, SourceDamaged, ToolMissing
from scriptorium.fs.attributes import give, held_open
from scriptorium.manifest import decoded, encoded
from scriptorium.sources.kuzu import epoch, export, reader
from scriptorium.sources.kuzu import layout as kuzu_layout

log = logging.getLogger(__name__)

_BAD_COPIES = 3  # after so many in a row, the living database counts as damaged
_LONGEST_PAUSE = 0.5


@dataclass(frozen=True, slots=True)
class Living:
    """The database that is copied: where it is, for how many seconds a hot copy is tried, the folder of the engine that
    reads it (if not the installed one), the statements for every snapshot, and the reader's share of the memory."""

    path: Path
    patience: float
    engine: Path | None
    statements: Mapping[str, str]
    share: float


@dataclass(frozen=True, slots=True)
class Captured:
    """A copy that was opened and read: how and when it was made, and what it holds.

    ``files``: its files, by what follows the database's name (``""``, ``.wal``, ``.shadow``; in a folder ``/data.kz``
    and so on), each with the hash that it had when it was copied.
    """

    method: str
    started_at: datetime
    finished_at: datetime
    fingerprints: reader.Fingerprints
    files: Mapping[str, str]


def capture(living: Living, stage: Path, *, paused: bool) -> None:
    """Copy it into ``stage``: ``raw/<name>``, and once it is proven ``fingerprints.json`` and ``export/``. A paused
    database is only copied: ``examine`` opens it, when the application runs again. Nothing is left there on an error.
    """
    layout = kuzu_layout.find(living.path)
    kuzu_layout.storage_version(layout)
    try:
        if paused:
            _capture_paused(layout, living, stage)
        else:
            _capture_hot(layout, living, stage)
    except BaseException:
        _empty(stage)
        raise


def examine(living: Living, stage: Path) -> Captured:
    """What ``capture`` has put there. ``SourceDamaged`` where a paused copy cannot be read."""
    copied = decoded((stage / "copied.json").read_bytes(), "record of a copy")
    files = copied.record("files").raw
    if not (stage / "fingerprints.json").exists():  # a paused capture had no time to open it
        files = dict[str, object](_hashes(stage / "raw" / living.path.name))
        try:
            _prove(living, stage)
        except reader.Unreadable as verdict:
            raise SourceDamaged(
                f"the copy cannot be read: {verdict}", on=str(living.path), hint="try again"
            ) from verdict
    return Captured(
        method=copied.text("method"),
        started_at=copied.instant("started_at"),
        finished_at=copied.instant("finished_at"),
        fingerprints=reader.load((stage / "fingerprints.json").read_text()),
        files={ending: str(sha256) for ending, sha256 in files.items()},
    )


def _capture_paused(layout: kuzu_layout.Layout, living: Living, stage: Path) -> None:
    try:
        _copy(layout, living, stage, paused=True)
    except epoch.EpochEnded as ended:
        raise SnapshotBusy(f"the application stopped at a bad time: {ended}", on=str(living.path)) from ended


def _capture_hot(layout: kuzu_layout.Layout, living: Living, stage: Path) -> None:
    tries = _Tries(layout, living.patience)
    bad = 0
    while True:
        tries.begin()
        try:
            _copy(layout, living, stage, paused=False)
            _prove(living, stage)
            tries.succeeded()
            return
        except epoch.EpochEnded as ended:
            tries.failed(str(ended), ended.seconds * layout.size() / ended.done if ended.done else 0.0)
        except reader.Unreadable as verdict:
            bad += 1
            if bad == _BAD_COPIES:
                raise SourceDamaged(
                    f"the database cannot be read: {verdict}", on=str(living.path), hint="restore it from a backup"
                ) from verdict
            tries.failed(f"the copy cannot be read: {verdict}", 0.0)
        _empty(stage)
        tries.pause()


def _copy(layout: kuzu_layout.Layout, living: Living, stage: Path, *, paused: bool) -> None:
    started = datetime.now(UTC)
    (stage / "raw").mkdir(mode=0o700)
    copied = epoch.attempt(layout, stage / "raw" / living.path.name, paused=paused)
    method = f"{copied.rule} (reflink)" if copied.how == "reflink" else copied.rule
    words = {"method": method, "started_at": started.isoformat(), "finished_at": datetime.now(UTC).isoformat()}
    log.info("%s was copied: %s", living.path, method)
    files = {} if paused else _hashes(stage / "raw" / living.path.name)
    (stage / "copied.json").write_bytes(encoded({**words, "files": files}))


def _hashes(copy: Path) -> dict[str, str]:
    """The files of the copy and their hashes. An empty WAL or shadow file has no meaning and is removed."""
    layout = kuzu_layout.find(copy)
    found = {}
    for path in layout.files():
        if not layout.folder and path != layout.path and (not path.stat().st_size or path.name.endswith(".tmp")):
            path.unlink()
            continue
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found[f"/{path.name}" if layout.folder else path.name[len(layout.path.name) :]] = digest
    return found


def _prove(living: Living, stage: Path) -> None:
    """Have a child read the copy, and store what it found. A copy that could not be read gets no fingerprints."""
    copy = stage / "raw" / living.path.name
    try:
        fingerprints = reader.read(copy, engine=living.engine, share=living.share, statements=living.statements)
        fingerprints = export.with_export(
            fingerprints, copy, stage / "export", engine=living.engine, share=living.share
        )
    except ToolMissing as missing:
        which = f": {missing.on}" if missing.on and missing.on != str(copy) else ""
        raise ToolMissing(f"{missing.what}{which}", on=str(living.path), hint=missing.hint) from None
    except reader.Unread as hindrance:
        fingerprints = reader.unread(hindrance, living.engine)
    have, lack = len(fingerprints.tables), len(fingerprints.missing)
    log.info("%s: %d tables have fingerprints, %d have none", living.path, have, lack)
    left = tuple(_copy_attributes(kuzu_layout.find(living.path), kuzu_layout.find(copy)))
    fingerprints = replace(fingerprints, warnings=(*fingerprints.warnings, *left))
    (stage / "fingerprints.json").write_text(reader.dump(fingerprints))


class _Tries:
    """Counts attempts, remembers how long epochs were, and waits between attempts."""

    def __init__(self, layout: kuzu_layout.Layout, patience: float) -> None:
        self._layout = layout
        self._deadline = time.monotonic() + patience
        self._count = 0
        self._began = 0.0
        self._longest = 0.0
        self._copy_takes = 0.0
        self._reason = ""
        self._wait = 0.005

    def begin(self) -> None:
        self._count += 1
        self._began = time.monotonic()

    def failed(self, reason: str, copy_takes: float) -> None:
        self._reason = reason
        self._longest = max(self._longest, time.monotonic() - self._began)
        self._copy_takes = max(self._copy_takes, copy_takes)
        if self._count & (self._count - 1) == 0:  # of many attempts the 1st, 2nd, 4th, 8th and so on are logged
            log.info("%s: attempt %d gave no consistent copy: %s", self._layout.path, self._count, reason)

    def succeeded(self) -> None:
        if self._count > 1:
            log.info("%s: attempt %d gave a consistent copy", self._layout.path, self._count)

    def pause(self) -> None:
        """Wait a little, longer each time. Most attempts begin as soon as the current checkpoint has ended, because
        the most time is left at the start of an epoch."""
        wait = 0.0 if self._count % 3 else random.uniform(0.5, 1.5) * self._wait  # noqa: S311 - jitter, no secret
        self._wait = min(self._wait * 1.5, _LONGEST_PAUSE)
        if time.monotonic() + wait > self._deadline:
            takes = f"the copy takes about {self._copy_takes:.2f} s" if self._copy_takes else "no copy was completed"
            raise SnapshotBusy(
                f"the database never held still: {self._count} attempts, the longest epoch seen lasted "
                f"{self._longest:.2f} s, {takes} (last: {self._reason})",
                on=str(self._layout.path),
                hint="try again when the application is calmer, or give the source a 'quiesce' setting",
            )
        time.sleep(wait or 0.001)
        look = 0.001
        while epoch.checkpointing(self._layout) and time.monotonic() < self._deadline:
            look = min(look * 1.2, 0.05)
            time.sleep(look)


def _copy_attributes(original: kuzu_layout.Layout, copy: kuzu_layout.Layout) -> Iterator[str]:
    """Give the copy the original's modes, access lists, attributes and, when root, its owners: a restore puts them
    back. What is not kept is named."""
    pairs = [(original.path, copy.path)]
    for path in copy.files():
        like = (
            original.path / path.name
            if copy.folder
            else kuzu_layout.companion(original.path, path.name[len(copy.path.name) :])
        )
        if path != copy.path:
            pairs.append((like if like.exists() else original.path, path))
    for old, new in pairs:
        with held_open(old) as living, held_open(new) as copied:
            left = give(living, copied, keep_special=new.is_dir())
        yield from (f"{old}: {what} is not kept" for what in left)


def _empty(stage: Path) -> None:
    for path in stage.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
