"""The store that keeps backups as folders, made by rsync."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from scriptorium.errors import DamageFound, NotFound, StoreRefused, ToolMissing, UsageError
from scriptorium.limits import Seconds, Word
from scriptorium.manifest import dumps_annotations, loads, loads_annotations
from scriptorium.members import Member
from scriptorium.model import Annotations, Manifest, Verification
from scriptorium.progress import Advance
from scriptorium.stores.base import GRACE, Package, Share, StoredBackup, StoreFeatures
from scriptorium.stores.care import Finding
from scriptorium.stores.trees.rsync import generations as ours
from scriptorium.stores.trees.rsync.folder import Folder
from scriptorium.stores.trees.rsync.program import SHELL, Rsync
from scriptorium.stores.trees.rsync.remote import Remote
from scriptorium.stores.trees.rsync.site import Site
from scriptorium.words import Compression

if TYPE_CHECKING:
    from scriptorium.stores.trees.package import TreePackage, TreePackaging

# What saves and reads is imported where it is used: a command that only lists loads none of it.
_TARGET = re.compile(
    r"(?P<host>(?:[^@/:\s-][^@/:\s]*@)?(?:\[[0-9A-Za-z:.%_-]+\]|[^@/:\s\[\]-][^@/:\s\[\]]*)):(?P<path>[^:].*)"
)


class RsyncStore(BaseModel):
    """Folders made by rsync below ``path`` of this machine, or on another host: ``target = "user@host:/srv/backups"``.

    ``ssh``: the words of the command. ``bwlimit``: as rsync writes it (``"5m"``). ``rsync_path``: the program on the
    host. ``checksum``: compare contents, and not only size and time, with the earlier backup. ``timeout``: seconds
    without a byte.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["rsync"] = "rsync"
    name: str = "rsync"
    path: Path | None = None
    target: str = Field(default="", max_length=4096, pattern=r"^[^\x00\n]*$")
    ssh: tuple[Word, ...] = Field(default=(SHELL,), min_length=1)
    rsync_path: str = Field(default="", pattern=r"^[^\x00\n]*$")
    bwlimit: str = Field(default="", pattern=r"^([0-9]+(\.[0-9]+)?[kKmMgG]?)?$")
    checksum: bool = False
    timeout: Seconds = 600.0

    @classmethod
    def from_url(cls, url: str) -> Mapping[str, object] | None:
        """``rsync:/FOLDER`` of this machine, or ``rsync:USER@HOST:/FOLDER``."""
        if not url.startswith("rsync:") or url.startswith("rsync://"):
            return None
        target = url.removeprefix("rsync:")
        return {"path": Path(target)} if target.startswith("/") else {"target": target}

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.path is None) != bool(self.target):
            raise ValueError("name one of 'path' (a folder of this machine) and 'target' (user@host:/folder)")
        if self.target and _TARGET.fullmatch(self.target) is None:
            raise ValueError("the target is user@host:/folder or host:/folder; a module of a daemon (::) has no shell")
        return self

    @property
    def features(self) -> StoreFeatures:
        return StoreFeatures(
            deduplicates=True, remote=self.folder is None, partial_read=True, resumes=True, shares=True
        )

    @property
    def folder(self) -> Path | None:
        return self.path

    @property
    def index_folder(self) -> Path | None:
        return None

    @property
    def program(self) -> Rsync:
        """rsync to the place of this store."""
        options = (f"--bwlimit={self.bwlimit}",) if self.bwlimit else ()
        if self.path is not None:
            return Rsync(str(self.path), options=options)
        found = _TARGET.fullmatch(self.target)
        assert found is not None
        more = (f"--rsync-path={self.rsync_path}",) if self.rsync_path else ()
        return Rsync(
            self.target, found["host"], self.ssh, (*options, *more, f"--timeout={max(1, round(self.timeout))}")
        )

    @property
    def site(self) -> Site:
        if self.path is not None:
            return Folder(self.path, str(self.path))
        found = _TARGET.fullmatch(self.target)
        assert found is not None
        return Remote(self.program, found["path"].rstrip("/") or "/")

    def is_free(self, library: str, label: str) -> bool:
        return not any(one.label == label for one in self.site.survey(library))

    def packaging(self, compression: Compression) -> TreePackaging:
        from scriptorium.stores.trees.package import TreePackaging

        return TreePackaging()

    def put(self, package: Package) -> StoredBackup:
        from scriptorium.stores.trees.package import TreePackage
        from scriptorium.stores.trees.rsync.saving import save

        if not isinstance(package, TreePackage):
            raise UsageError("this store reads the parts where they lie, and takes no archive", on=self.name)
        site = self.site
        seen = site.survey(package.manifest.library)
        verification = self._present(package, seen)
        if verification is None:
            verification = save(site, self.program, package, seen, checksum=self.checksum)
        library, label = package.manifest.library, package.label
        size = max(package.contents, 1)
        return StoredBackup(f"{library}/{label}", library, label, size, datetime.now(UTC), verification=verification)

    def _present(self, package: TreePackage, seen: Sequence[ours.Seen]) -> Verification | None:
        """What is known of a copy of this backup that is there already; one that is damaged is replaced."""
        key = f"{package.manifest.library}/{package.label}"
        there = next((one for one in seen if one.path == key), None)
        if there is None:
            return None
        card = ours.read_card(there) if there.is_backup else None
        if card is None or card.id != package.manifest.id:
            raise StoreRefused(
                "another backup has this name already", on=key, hint="two hosts use one folder; give each its own"
            )
        verification = self.verify(key)
        if verification.sound:
            return verification
        self.remove(key)
        return None

    def list(self, library: str = "") -> Iterator[StoredBackup]:
        return (self._stored(one) for one in self.site.survey(library) if one.is_backup)

    def _stored(self, seen: ours.Seen) -> StoredBackup:
        card = ours.read_card(seen)
        size = card.size if card is not None else 0
        return StoredBackup(seen.path, seen.library, seen.name, size, seen.changed, seen.stamp, contents=seen.contents)

    def manifest(self, key: str) -> Manifest:
        return loads(self._read(key, ours.MANIFEST))

    def _read(self, key: str, name: str) -> bytes:
        with self.site.fetched(key, (name,)) as files:
            if name not in files:
                raise NotFound("there is no such backup", on=self.location(key))
            return files[name].read_bytes()

    def visible_damage(self, found: StoredBackup, manifest: Manifest) -> tuple[str, ...]:
        return () if found.contents else ("the folder of its contents is missing",)

    def annotations(self, key: str) -> Annotations:
        try:
            return loads_annotations(self._read(key, ours.ANNOTATIONS))
        except NotFound:
            return Annotations()
        except (DamageFound, ToolMissing):  # torn, or a newer program's: it may have held a pin
            return Annotations(pinned=True)

    def annotate(self, key: str, annotations: Annotations) -> None:
        self.site.replace(key, ours.ANNOTATIONS, dumps_annotations(annotations))

    @contextmanager
    def members(
        self, key: str, wanted: Callable[[str], bool] | None = None, *, advance: Advance | None = None
    ) -> Iterator[Iterator[Member]]:
        from scriptorium.stores.trees.rsync.reading import recorded

        with recorded(self.site, key, self.location(key), wanted) as record:
            found = record.members(wanted, advance)
            try:
                yield found
            finally:
                found.close()

    def verify(self, key: str, *, share: Share | None = None, advance: Advance | None = None) -> Verification:
        from scriptorium.stores.trees.rsync.verification import verified

        return verified(self.site, key, self.location(key), share, advance)

    def remove(self, key: str) -> None:
        from scriptorium.stores.trees.rsync.removal import removed

        removed(self.site, key)

    def sweep(self, now: datetime, *, grace: timedelta = GRACE, dry_run: bool = False) -> tuple[str, ...]:
        from scriptorium.stores.trees.rsync.removal import swept

        return swept(self.site, now, grace, dry_run=dry_run)

    def discard_unfinished(self, library: str, created_at: datetime) -> tuple[str, ...]:
        from scriptorium.stores.trees.rsync.removal import set_aside

        return set_aside(self.site, library, created_at)

    def initialize(self) -> str:
        """See ``stores.care``."""
        from scriptorium.stores.trees.rsync.examination import tried

        tried(self.site)
        return "the folder is there, and can be written to"

    def examine(self, *, try_delete: bool) -> Iterator[Finding]:
        """See ``stores.care``."""
        from scriptorium.stores.trees.rsync.examination import examine

        return examine(self.site, try_delete=try_delete)

    def usage(self) -> tuple[int, int | None]:
        site = self.site
        return ours.space_taken(site.survey()), site.free()

    def location(self, key: str) -> str:
        return f"{self.target or self.path}/{key}"
