"""A Kuzu database copied into the workspace and proven there: hot, again and again until a copy is good, or paused."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from scriptorium.errors import SnapshotBusy, SourceDamaged, ToolMissing
from scriptorium.sources import kuzu_epoch, kuzu_layout, kuzu_verdict

_BAD_COPIES = 3  # in a row: then it is the living database that is damaged
_LONGEST_PAUSE = 0.5


@dataclass(frozen=True, slots=True)
class Living:
    """The database that is copied: where it is, seconds of trying for a hot copy, the engine that reads it where that
    is not the installed one, and what is asked of every snapshot."""

    path: Path
    patience: float
    engine: Path | None
    statements: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Captured:
    """A copy that was opened and read: how and when it was made, and what it holds."""

    method: str
    started_at: datetime
    finished_at: datetime
    facts: kuzu_verdict.Facts


def capture(living: Living, stage: Path, *, paused: bool) -> None:
    """Copy it into ``stage``: ``raw/<name>``, and once it is proven ``facts.json`` and ``export/``. A paused database
    is only copied: it is opened by ``examine``, when the application runs again. Nothing is left there on an error."""
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
    copied = json.loads((stage / "copied.json").read_text())
    if not (stage / "facts.json").exists():  # a paused capture had no time to open it
        try:
            _prove(living, stage)
        except kuzu_verdict.Unreadable as verdict:
            raise SourceDamaged(
                f"the copy cannot be read: {verdict}", on=str(living.path), hint="try again"
            ) from verdict
    return Captured(
        method=str(copied["method"]),
        started_at=datetime.fromisoformat(copied["started_at"]),
        finished_at=datetime.fromisoformat(copied["finished_at"]),
        facts=kuzu_verdict.load((stage / "facts.json").read_text()),
    )


def _capture_paused(layout: kuzu_layout.Layout, living: Living, stage: Path) -> None:
    try:
        _copy(layout, living, stage, paused=True)
    except kuzu_epoch.EpochEnded as ended:
        raise SnapshotBusy(f"the application stopped at a bad moment: {ended}", on=str(living.path)) from ended


def _capture_hot(layout: kuzu_layout.Layout, living: Living, stage: Path) -> None:
    tries = _Tries(layout, living.patience)
    bad = 0
    while True:
        tries.begin()
        try:
            _copy(layout, living, stage, paused=False)
            _prove(living, stage)
            return
        except kuzu_epoch.EpochEnded as ended:
            tries.failed(str(ended), ended.seconds * layout.size() / ended.done if ended.done else 0.0)
        except kuzu_verdict.Unreadable as verdict:
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
    copied = kuzu_epoch.attempt(layout, stage / "raw" / living.path.name, paused=paused)
    method = f"{copied.rule} (reflink)" if copied.how == "reflink" else copied.rule
    words = {"method": method, "started_at": started.isoformat(), "finished_at": datetime.now(UTC).isoformat()}
    (stage / "copied.json").write_text(json.dumps(words))


def _prove(living: Living, stage: Path) -> None:
    """Open the copy for writing in a child (which replays the WAL), and keep what it says."""
    copy = stage / "raw" / living.path.name
    try:
        facts = kuzu_verdict.read(
            copy, engine=living.engine, read_only=False, export=stage / "export", statements=living.statements
        )
    except ToolMissing as missing:
        raise ToolMissing(missing.what, on=str(living.path), hint=missing.hint) from None
    layout = kuzu_layout.find(copy)
    if any(path.stat().st_size for path in (layout.wal, layout.shadow) if path.exists()):
        raise kuzu_verdict.Unreadable("its WAL is still there after it was closed")
    _dress(kuzu_layout.find(living.path).path, copy)
    (stage / "facts.json").write_text(kuzu_verdict.dump(facts))


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

    def pause(self) -> None:
        """Wait a little, more each time; but mostly begin when the checkpoint that was met has just ended: no
        epoch leaves more time than one from its first moment."""
        wait = 0.0 if self._count % 3 else random.uniform(0.5, 1.5) * self._wait  # noqa: S311 - jitter, no secret
        self._wait = min(self._wait * 1.5, _LONGEST_PAUSE)
        if time.monotonic() + wait > self._deadline:
            takes = f"the copy takes about {self._copy_takes:.2f} s" if self._copy_takes else "no copy came to its end"
            raise SnapshotBusy(
                f"the database never held still: {self._count} attempts, the longest epoch seen lasted "
                f"{self._longest:.2f} s, {takes} (last: {self._reason})",
                on=str(self._layout.path),
                hint="try again when the application is calmer, or give the source a 'quiesce' setting",
            )
        time.sleep(wait or 0.001)
        look = 0.001
        while kuzu_epoch.checkpointing(self._layout) and time.monotonic() < self._deadline:
            look = min(look * 1.2, 0.05)
            time.sleep(look)


def _dress(original: Path, copy: Path) -> None:
    """Give the copy the original's modes and, when root, its owners: a restore puts them back."""
    pairs = [(original, copy)]
    if copy.is_dir():
        pairs += [(original / path.name, path) for path in copy.iterdir() if (original / path.name).exists()]
    for old, new in pairs:
        found = old.stat()
        if os.geteuid() == 0:
            os.chown(new, found.st_uid, found.st_gid)
        new.chmod(found.st_mode & 0o7777)


def _empty(stage: Path) -> None:
    for path in stage.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
