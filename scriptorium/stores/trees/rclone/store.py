"""The store that keeps backups in a remote of rclone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from scriptorium import process
from scriptorium.errors import STORE_TROUBLE, DamageFound, NotFound, StoreUnavailable, ToolMissing, UsageError
from scriptorium.failpoints import reach
from scriptorium.manifest import dumps_annotations, loads, loads_annotations
from scriptorium.members import Member
from scriptorium.model import Annotations, Manifest, Verification
from scriptorium.progress import Advance
from scriptorium.stores.base import GRACE, Package, Share, StoredBackup, StoreFeatures
from scriptorium.stores.trees.rclone.layout import ANNOTATIONS, CLAIM, MANIFEST, Seen, parse_claim, read, survey
from scriptorium.stores.trees.rclone.place import RclonePlace, shown
from scriptorium.stores.trees.rclone.program import Rclone
from scriptorium.words import Compression

if TYPE_CHECKING:
    from scriptorium.stores.trees.package import TreePackaging

# What saves and reads is imported where it is used: a command that only lists loads none of it.


class RcloneStore(RclonePlace):
    """A folder for each backup in a remote of rclone.

    ``check``: what proves that a file arrived: ``auto`` takes the remote's hash where it is computed there, ``hashes``
    takes it always, ``read`` never. ``bwlimit``, ``transfers``, ``checkers``: as rclone has them.
    """

    kind: Literal["rclone"] = "rclone"
    name: str = "rclone"
    check: Literal["auto", "hashes", "read"] = "auto"
    bwlimit: str = Field(default="", pattern=r"^[0-9A-Za-z:.,\- ]*$")
    transfers: int = Field(default=4, ge=1, le=64)
    checkers: int = Field(default=8, ge=1, le=64)

    @classmethod
    def from_url(cls, url: str) -> Mapping[str, object] | None:
        """``rclone:REMOTE:PATH``; rclone finds its own file."""
        if not url.startswith("rclone:"):
            return None
        config = process.variable("RCLONE_CONFIG")
        return {"remote": url.removeprefix("rclone:"), **({"config": config} if config else {})}

    @property
    def features(self) -> StoreFeatures:
        return StoreFeatures(
            encrypts=self.encrypted,
            remote=self.folder is None,
            partial_read=True,
            resumes=True,
            shares=True,
            contents_only=True,
        )

    @property
    def index_folder(self) -> None:
        return None

    @property
    def program(self) -> Rclone:
        """rclone on this remote."""
        words = (f"--transfers={self.transfers}", f"--checkers={self.checkers}")
        return self.rclone(self.name, (*words, *([f"--bwlimit={self.bwlimit}"] if self.bwlimit else [])))

    def _survey(self, library: str = "", label: str = "") -> Sequence[Seen]:
        self._require_place()
        return survey(self.program, library, label)

    def is_free(self, library: str, label: str) -> bool:
        return not any(one.label == label for one in self._survey(library))

    def packaging(self, compression: Compression) -> TreePackaging:
        from scriptorium.stores.trees.package import TreePackaging

        return TreePackaging()

    def put(self, package: Package) -> StoredBackup:
        from scriptorium.stores.trees.package import TreePackage
        from scriptorium.stores.trees.rclone.saving import save

        if not isinstance(package, TreePackage):
            raise UsageError("this store reads the parts where they lie, and takes no archive", on=self.name)
        program, library, label = self.program, package.manifest.library, package.label
        key = f"{library}/{label}"
        seen = self._survey(library)
        saved = save(program, package, seen, self.check)
        size = max(saved.package.contents, 1)
        return StoredBackup(key, library, label, size, datetime.now(UTC), verification=saved.verification)

    def list(self, library: str = "") -> Iterator[StoredBackup]:
        return (self._stored(one) for one in self._survey(library) if one.is_backup)

    def _stored(self, seen: Seen) -> StoredBackup:
        _, modified = seen.files[MANIFEST]
        size = max(seen.bytes, 1)
        return StoredBackup(seen.key, seen.library, seen.label, size, modified, seen.stamp, contents=seen.complete)

    def manifest(self, key: str) -> Manifest:
        return loads(self._read(key, MANIFEST))

    def _read(self, key: str, name: str) -> bytes:
        try:
            return read(self.program, key, name)
        except NotFound:
            self._require_place()
            raise NotFound("there is no such backup", on=self.location(key)) from None

    def _require_place(self) -> None:
        """A folder of this machine that has become something else is not an empty one."""
        if self.folder is not None and self.folder.exists() and not self.folder.is_dir():
            raise StoreUnavailable("the store's path is no folder", on=str(self.folder), hint="check the remote")

    def visible_damage(self, found: StoredBackup, manifest: Manifest) -> tuple[str, ...]:
        return () if found.contents else (_INCOMPLETE,)

    def annotations(self, key: str) -> Annotations:
        try:
            return loads_annotations(self._read(key, ANNOTATIONS))
        except NotFound:
            return Annotations()
        except (DamageFound, ToolMissing):  # torn, or a newer program's: it may have held a pin
            return Annotations(pinned=True)

    def annotate(self, key: str, annotations: Annotations) -> None:
        self._read(key, MANIFEST)
        program = self.program
        program.run("rcat", program.at(key, ANNOTATIONS), input=dumps_annotations(annotations))

    @contextmanager
    def members(
        self, key: str, wanted: Callable[[str], bool] | None = None, *, advance: Advance | None = None
    ) -> Iterator[Iterator[Member]]:
        from scriptorium.stores.trees.rclone.reading import recorded

        with recorded(self.program, key, self.location(key), wanted) as record:
            found = record.members(wanted, advance)
            try:
                yield found
            finally:
                found.close()

    def verify(self, key: str, *, share: Share | None = None, advance: Advance | None = None) -> Verification:
        from scriptorium.stores.trees.rclone.verification import verified

        self._require_place()
        return verified(self.program, key, self.location(key), self.check, share, advance)

    def remove(self, key: str) -> None:
        library, _, label = key.partition("/")
        for one in self._survey(library, label):
            self._remove(one)

    def _remove(self, seen: Seen) -> None:
        """Its manifest first: what is left then is no backup."""
        program = self.program
        if seen.is_backup:
            program.run("deletefile", program.at(seen.key, MANIFEST))
            reach("rclone.after-manifest-removal")
        program.run("purge", program.at(seen.key), within=None)

    def sweep(self, now: datetime, *, grace: timedelta = GRACE, dry_run: bool = False) -> tuple[str, ...]:
        rubbish = [one for one in self._survey() if not one.is_backup and now - one.changed > grace]
        if not dry_run:
            self._abort_uploads(grace)
        return self._swept(rubbish, dry_run=dry_run)

    def _abort_uploads(self, grace: timedelta) -> None:
        """Parts of files that a killed rclone left in a bucket: nobody sees them, and they take space."""
        program = self.program
        if program.abilities.bucket and program.abilities.cleans:
            with contextlib.suppress(*STORE_TROUBLE, NotFound):
                age = f"max-age={max(1, round(grace.total_seconds()))}s"
                program.run("backend", "cleanup", program.remote, "-o", age)

    def discard_unfinished(self, library: str, created_at: datetime) -> tuple[str, ...]:
        unfinished = [one for one in self._survey(library) if not one.is_backup]
        return self._swept([one for one in unfinished if self._is_of(one, created_at)])

    def _is_of(self, seen: Seen, created_at: datetime) -> bool:
        """Whether the run of that time left it; without a claim, its label says that."""
        try:
            claim = parse_claim(read(self.program, seen.key, CLAIM))
        except NotFound:
            claim = None
        if claim is not None:
            return claim.created == created_at
        return f"{created_at.astimezone(UTC):%Y%m%d_%H%M%S}" in seen.label

    def _swept(self, rubbish: Sequence[Seen], *, dry_run: bool = False) -> tuple[str, ...]:
        if not dry_run:
            for one in rubbish:
                self._remove(one)
        return tuple(f"{one.key} (unfinished)" for one in rubbish)

    def usage(self) -> tuple[int, int | None]:
        from scriptorium.stores.trees.rclone.space import free_bytes

        return sum(one.bytes for one in self._survey()), free_bytes(self.program)

    def location(self, key: str) -> str:
        return f"rclone:{shown(self.remote)}#{key}"


_INCOMPLETE = "its contents, or the list of them, are missing"
