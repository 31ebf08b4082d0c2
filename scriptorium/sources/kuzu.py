"""A Kuzu database, copied hot: see ``kuzu_epoch`` for the protocol and what it guarantees."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from scriptorium.errors import SnapshotBusy, SourceDamaged, ToolMissing
from scriptorium.model import Holder, Part, Role, Staged, Survey, Tree
from scriptorium.sources import kuzu_epoch, kuzu_layout, kuzu_verdict
from scriptorium.sources.kuzu_restore import KuzuIncoming
from scriptorium.sources.open_files import command_of, holders_of, lock_holder
from scriptorium.sources.pausing import Quiesce
from scriptorium.sources.rights import may_write

EXPORTS = "exports"  # reserved at the top of an archive
_BAD_COPIES = 3  # in a row: then it is the living database that is damaged
_LONGEST_PAUSE = 0.5


class KuzuSource(BaseModel):
    """``path``: the database, a file or (Kuzu 0.10 and before) a folder. ``at``: its path in the archive, by default
    ``<name>/<name of the file>``. ``patience``: seconds of trying for a hot copy. ``engine``: a folder with the kuzu
    package that reads it, where that is not the installed one (``pip install --target DIR kuzu==0.10.0``).
    ``statements``: Cypher queries by name, put to every snapshot and to what is restored; a preset's checks read them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["kuzu"] = "kuzu"
    name: str = Field(default="kuzu", pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")
    path: Path
    at: str = ""
    role: Role = Role.DATABASE
    patience: float = Field(default=60.0, gt=0)
    engine: Path | None = None
    quiesce: Quiesce | None = None
    statements: dict[str, str] = Field(default_factory=dict)

    @property
    def place(self) -> str:
        return self.at or f"{self.name}/{self.path.name}"

    @property
    def export_place(self) -> str:
        """The path of the logical export in the archive."""
        return f"{EXPORTS}/{self.name}"

    def survey(self, never: tuple[Path, ...]) -> Survey:
        layout = kuzu_layout.find(self.path)
        total = layout.size()
        return Survey(bytes=total, files=len(layout.files()), staged_bytes=total + total // 4)  # the copy, its export

    def capture(self, stage: Path, *, paused: bool = False) -> None:
        """Copy the database into ``stage``: ``raw/<name>``, and once it is proven ``facts.json`` and ``export/``.

        A hot copy counts only after it was opened and read. Raises ``SnapshotBusy`` (with how long the epochs
        were), ``SourceDamaged`` when copies that nothing disturbed cannot be read, ``ToolMissing`` for the database
        of another engine.
        """
        layout = kuzu_layout.find(self.path)
        kuzu_layout.storage_version(layout)
        try:
            if paused:
                self._capture_paused(layout, stage)
            else:
                self._capture_hot(layout, stage)
        except BaseException:
            _empty(stage)
            raise

    def _capture_paused(self, layout: kuzu_layout.Layout, stage: Path) -> None:
        try:
            self._copy(layout, stage, paused=True)
        except kuzu_epoch.EpochEnded as ended:
            raise SnapshotBusy(f"the application stopped at a bad moment: {ended}", on=str(self.path)) from ended

    def _capture_hot(self, layout: kuzu_layout.Layout, stage: Path) -> None:
        tries = _Tries(layout, self.patience)
        bad = 0
        while True:
            tries.begin()
            try:
                self._copy(layout, stage, paused=False)
                self._prove(stage)
                return
            except kuzu_epoch.EpochEnded as ended:
                tries.failed(str(ended), ended.seconds * layout.size() / ended.done if ended.done else 0.0)
            except kuzu_verdict.Unreadable as verdict:
                bad += 1
                if bad == _BAD_COPIES:
                    raise SourceDamaged(
                        f"the database cannot be read: {verdict}", on=str(self.path), hint="restore it from a backup"
                    ) from verdict
                tries.failed(f"the copy cannot be read: {verdict}", 0.0)
            _empty(stage)
            tries.pause()

    def _copy(self, layout: kuzu_layout.Layout, stage: Path, *, paused: bool) -> None:
        started = datetime.now(UTC)
        (stage / "raw").mkdir(mode=0o700)
        copied = kuzu_epoch.attempt(layout, stage / "raw" / self.path.name, paused=paused)
        method = f"{copied.rule} (reflink)" if copied.how == "reflink" else copied.rule
        words = {"method": method, "started_at": started.isoformat(), "finished_at": datetime.now(UTC).isoformat()}
        (stage / "copied.json").write_text(json.dumps(words))

    def _prove(self, stage: Path) -> None:
        """Open the copy for writing in a child (which replays the WAL), and keep what it says."""
        copy = stage / "raw" / self.path.name
        try:
            facts = kuzu_verdict.read(
                copy, engine=self.engine, read_only=False, export=stage / "export", statements=self.statements
            )
        except ToolMissing as missing:
            raise ToolMissing(missing.what, on=str(self.path), hint=missing.hint) from None
        layout = kuzu_layout.find(copy)
        if any(path.stat().st_size for path in (layout.wal, layout.shadow) if path.exists()):
            raise kuzu_verdict.Unreadable("its WAL is still there after it was closed")
        _dress(kuzu_layout.find(self.path).path, copy)
        (stage / "facts.json").write_text(kuzu_verdict.dump(facts))

    def examine(self, stage: Path, never: tuple[Path, ...]) -> Staged:
        copied = json.loads((stage / "copied.json").read_text())
        if not (stage / "facts.json").exists():  # a paused capture had no time to open it
            try:
                self._prove(stage)
            except kuzu_verdict.Unreadable as verdict:
                raise SourceDamaged(
                    f"the copy cannot be read: {verdict}", on=str(self.path), hint="try again"
                ) from verdict
        facts = kuzu_verdict.load((stage / "facts.json").read_text())
        trees = [Tree(root=str(stage / "raw" / self.path.name), at=self.place)]
        if facts.exported:
            trees.append(Tree(root=str(stage / "export"), at=self.export_place))
        return Staged(
            source=self.name,
            kind=self.kind,
            path=self.place,
            method=copied["method"],
            started_at=datetime.fromisoformat(copied["started_at"]),
            finished_at=datetime.fromisoformat(copied["finished_at"]),
            trees=tuple(trees),
            engine_version=facts.engine_version,
            tables=facts.tables,
            export=self.export_place if facts.exported else None,
            warnings=facts.warnings,
            answers=facts.answers,
        )

    def holders(self) -> Iterator[Holder]:
        if not self.path.exists():
            return
        layout = kuzu_layout.find(self.path)
        seen = set()
        for holder in holders_of([layout.path] if layout.folder else layout.files()):
            seen.add(holder.pid)
            yield holder
        pid = lock_holder(layout.locked)
        if pid is not None and pid not in seen:
            yield Holder(pid, command_of(pid), str(self.path))

    def incoming(
        self,
        part: Part,
        restore_id: str,
        *,
        into: Path | None = None,
        rebuild: bool = False,
        partial: bool = False,
        never: tuple[Path, ...] = (),
    ) -> KuzuIncoming:
        target = self.path if into is None else into / part.path
        return KuzuIncoming(
            part,
            target,
            f"{restore_id}-{self.name}",
            engine=self.engine,
            rebuild=rebuild,
            statements=self.statements,
        )

    def preconditions(self, part: Part) -> Mapping[str, Callable[[], str]]:
        return {
            "rights": lambda: may_write(self.path.parent),
            "engine": lambda: f"kuzu {kuzu_verdict.engine_version(self.engine)}, saved by {part.engine_version}",
        }

    def working_in(self, room: Path) -> KuzuSource:
        return self

    def adapted(self, *, clean: bool = False, without_roles: bool = False) -> KuzuSource:
        return self

    @property
    def way(self) -> Mapping[str, bool]:
        return {}

    def by(self, way: Mapping[str, bool]) -> KuzuSource:
        return self

    def tidy(self) -> tuple[str, ...]:
        return ()

    def renamed(self, name: str) -> None:
        return None

    def rehearsal(self, part: Part, drill_id: str, scratch: Path) -> KuzuIncoming:
        return self.incoming(part, drill_id, into=scratch)


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
