"""A Kuzu database, copied hot: see ``epoch.py`` for the protocol and what it guarantees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from scriptorium.errors import NotFound, SourceDamaged
from scriptorium.fs.permissions import may_write
from scriptorium.limits import Seconds, SourceName
from scriptorium.model import Holder, Part, Staged, Survey, Tree
from scriptorium.sources.kuzu.layout import COMPANIONS, companion
from scriptorium.sources.options import AS_CONFIGURED, RestoreOptions
from scriptorium.sources.quiesce import Quiesce
from scriptorium.words import Role

if TYPE_CHECKING:  # imported where it is used: every `list` reads the settings, and must start quickly
    from scriptorium.fs.in_use import Look
    from scriptorium.sources.kuzu.adoption import Database
    from scriptorium.sources.kuzu.capture import Living
    from scriptorium.sources.kuzu.restore import KuzuIncoming
    from scriptorium.sources.kuzu.tables import KuzuTables
    from scriptorium.sources.tables import Wanted

EXPORTS = "exports"  # reserved at the top of an archive


class KuzuSource(BaseModel):
    """``path``: the database, a file or (Kuzu 0.10 and before) a folder. ``at``: its path in the archive, by default
    ``<name>/<name of the file>``. ``patience``: for how many seconds a hot copy is tried. ``engine``: a folder with the
    kuzu package that reads it, if not the installed one (``pip install --target DIR kuzu==0.10.0``).
    ``memory_share``: how much of the memory that this process may use (of the machine or the container) the child that
    reads the database gets. ``statements``: Cypher queries by name, run on every snapshot and on every restored
    database; a preset's checks read their answers. ``remarks``: warnings for every backup, from a preset that could not
    find out something.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["kuzu"] = "kuzu"
    name: SourceName = "kuzu"
    path: Path
    at: str = ""
    role: Role = Role.DATABASE
    patience: Seconds = 60.0
    engine: Path | None = None
    memory_share: float = Field(default=0.5, gt=0, le=1)
    quiesce: Quiesce | None = None
    statements: dict[str, str] = Field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        return self.at or f"{self.name}/{self.path.name}"

    @property
    def export_place(self) -> str:
        """The path of the logical export in the archive."""
        return f"{EXPORTS}/{self.name}"

    def survey(self, never: tuple[Path, ...]) -> Survey:
        from scriptorium.sources.kuzu import layout as kuzu_layout

        layout = kuzu_layout.find(self.path)
        total = layout.size()
        # a database that must be opened for writing is copied once more
        tried = total if layout.folder or layout.shadow.exists() else 0
        return Survey(bytes=total, files=len(layout.files()), staged_bytes=total + total // 4 + tried)  # and its export

    def tree(self, never: tuple[Path, ...] = ()) -> Tree:
        """The database itself; for the tree of a snapshot see ``examine``."""
        return Tree(root=str(self.path), at=self.place, never=tuple(str(path) for path in never))

    def claims(self) -> tuple[Path, ...]:
        """The database and its companions."""
        return (self.path, *(companion(self.path, ending) for ending in COMPANIONS))

    def capture(self, stage: Path) -> None:
        """Copy the database into ``stage``: ``raw/<name>`` and its WAL; after it was read also ``fingerprints.json``
        and ``export/``.

        A hot copy counts only after it was read, or if too little memory is available to read it. Raises
        ``SnapshotBusy`` (with the length of the epochs), ``SourceDamaged`` if undisturbed copies cannot be read,
        ``ToolMissing`` for the database of another engine.
        """
        from scriptorium.sources.kuzu.capture import capture

        capture(self.living, stage, paused=False)

    def capture_paused(self, stage: Path) -> None:
        """The same while its application is paused, without waiting."""
        from scriptorium.sources.kuzu.capture import capture

        capture(self.living, stage, paused=True)

    def examine(self, stage: Path, never: tuple[Path, ...]) -> Staged:
        from scriptorium.sources.kuzu.capture import examine

        copied = examine(self.living, stage)
        fingerprints = copied.fingerprints
        raw = stage / "raw" / self.path.name
        beside = [ending for ending in COMPANIONS if ending in copied.files]
        trees = [Tree(root=f"{raw}{ending}", at=f"{self.place}{ending}") for ending in ("", *beside)]
        if fingerprints.exported:
            trees.append(Tree(root=str(stage / "export"), at=self.export_place))
        return Staged(
            source=self.name,
            kind=self.kind,
            path=self.place,
            method=copied.method,
            started_at=copied.started_at,
            finished_at=copied.finished_at,
            trees=tuple(trees),
            engine_version=fingerprints.engine_version,
            tables=fingerprints.tables,
            export=self.export_place if fingerprints.exported else None,
            export_lacks=fingerprints.export_lacks,
            warnings=(*self.remarks, *fingerprints.warnings),
            answers=fingerprints.answers,
            missing_fingerprints=fingerprints.missing,
            seen={f"{self.place}{ending}": digest for ending, digest in copied.files.items()},
        )

    @property
    def living(self) -> Living:
        from scriptorium.sources.kuzu.capture import Living

        return Living(self.path, self.patience, self.engine, self.statements, self.memory_share)

    def holders(self) -> Iterator[Holder]:
        from scriptorium.fs.open_files import command_of, holders_of, lock_holder
        from scriptorium.sources.kuzu import layout as kuzu_layout

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

    def in_use(self) -> Look:
        """Checked by leases on the files of the database, and by a WAL that appears or grows."""
        from scriptorium.fs.in_use import Look, look
        from scriptorium.sources.kuzu import layout as kuzu_layout

        try:
            layout = kuzu_layout.find(self.path)
            return look(layout.files(), [layout.wal])
        except (OSError, NotFound, SourceDamaged):
            return Look()

    def incoming(
        self,
        part: Part,
        restore_id: str,
        *,
        into: Path | None = None,
        options: RestoreOptions = AS_CONFIGURED,
        partial: bool = False,
        never: tuple[Path, ...] = (),
    ) -> KuzuIncoming:
        from scriptorium.sources.kuzu.restore import KuzuIncoming

        target = self.path if into is None else into / part.path
        return KuzuIncoming(
            part,
            target,
            f"{restore_id}-{self.name}",
            engine=self.engine,
            rebuild=options.kuzu.rebuild,
            statements=self.statements,
            share=self.memory_share,
            scratch=into is not None,
            ownership=options.ownership,
        )

    def preconditions(self, part: Part, options: RestoreOptions = AS_CONFIGURED) -> Mapping[str, Callable[[], str]]:
        rebuild = options.kuzu.rebuild

        def engine() -> str:
            from scriptorium.sources.kuzu.reader import engine_version, require_reading

            return require_reading(part, engine_version(self.engine), rebuild=rebuild)

        def carried() -> str:
            lacks = ", ".join(part.export_lacks)
            return f"the new database will differ in: {lacks}" if lacks else "rows, and everything that Kuzu reports"

        found = {"rights": lambda: may_write(self.path.parent), "engine": engine}
        return {**found, "export": carried} if rebuild and part.export else found

    def take_out(self, raw: Path, place: Path) -> Database | None:
        from scriptorium.sources.kuzu.adoption import take_out

        return take_out(self, raw, place)

    def tables_in(self, part: Part, wanted: Sequence[Wanted], folder: Path) -> KuzuTables:
        from scriptorium.sources.kuzu.tables import KuzuTables

        return KuzuTables(part, wanted, folder)

    def steps(self, table: str) -> tuple[str, ...]:
        """Kuzu has no schemas, and a name may hold a dot."""
        return (table,)

    def journal_record(self, options: RestoreOptions = AS_CONFIGURED) -> Mapping[str, bool | str]:
        return {"path": str(self.path.absolute())}

    def as_recorded(self, record: Mapping[str, bool | str]) -> KuzuSource:
        return self.model_copy(update={"path": Path(str(record["path"]))}) if "path" in record else self
