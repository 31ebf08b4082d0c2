"""The store that keeps backups in a repository of restic."""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from scriptorium.errors import DamageFound, NotFound, Protected, ToolMissing, UsageError
from scriptorium.fs.free_space import free_bytes
from scriptorium.manifest import dumps_annotations, loads, loads_annotations
from scriptorium.members import Member
from scriptorium.model import Annotations, Manifest, Verification
from scriptorium.progress import Advance
from scriptorium.stores.base import GRACE, BackupStore, Package, Share, StoredBackup, StoreFeatures
from scriptorium.stores.care import Finding
from scriptorium.stores.trees.password import PasswordSettings, environment_password
from scriptorium.stores.trees.restic import snapshots as ours
from scriptorium.stores.trees.restic.failures import NoRepository
from scriptorium.stores.trees.restic.program import (
    Restic,
    local_folder,
    password_environment,
    secrets_of,
    without_secrets,
)
from scriptorium.words import Compression

if TYPE_CHECKING:
    from scriptorium.stores.trees.package import TreePackaging
    from scriptorium.stores.trees.restic.transfer import RepositoryCopy

# What saves and reads is imported where it is used: a command that only lists loads none of it.
log = logging.getLogger(__name__)

_STANDS = 300.0  # seconds for which a refusal to remove is remembered
_put: set[tuple[str, str]] = set()  # by repository, what this process has put: it need not be looked for
_RECENT = 10.0  # seconds: the list of one step of a backup serves the next one
_append_only: dict[str, float] = {}  # by repository, when it was refused
_MANIFEST_FILE, _ANNOTATIONS_FILE = "manifest.json", "annotations.json"


class ResticStore(PasswordSettings):
    """A repository of restic, ``repository`` in its own words: a folder, ``sftp:``, ``rest:``, ``s3:``, ``rclone:``.

    The password is in a file, in a variable, or printed by a command. ``cache``: a folder for what restic remembers of
    a remote repository. ``limit_upload``, ``limit_download``: KiB per second, 0 for no limit. ``options``: restic's
    extended options (``sftp.command``). ``compression``: of new data.
    """

    kind: Literal["restic"] = "restic"
    name: str = "restic"
    repository: str = Field(repr=False)  # it may hold a password
    cache: Path | None = None
    limit_upload: int = Field(default=0, ge=0)
    limit_download: int = Field(default=0, ge=0)
    compression: Literal["auto", "max", "off"] = "auto"
    options: Mapping[str, str] = Field(default_factory=dict)

    @classmethod
    def from_url(cls, url: str) -> Mapping[str, object] | None:
        """``restic:REPOSITORY``, in restic's own words; the password where restic looks for it."""
        if not url.startswith("restic:"):
            return None
        repository = url.removeprefix("restic:")
        if ":" not in repository:
            repository = str(Path(repository).absolute())
        return {"repository": repository, **environment_password("RESTIC_PASSWORD")}

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.password_ways != 1:
            raise ValueError("say in one way where the password is: password_file, password_env or password_command")
        if ":" not in self.repository and not self.repository.startswith("/"):
            raise ValueError("the repository is an absolute path, or an address as restic writes it (sftp:…, s3:…)")
        return self

    @property
    def features(self) -> StoreFeatures:
        return StoreFeatures(
            encrypts=True, deduplicates=True, remote=self.folder is None, partial_read=True, resumes=True, shares=True
        )

    @property
    def folder(self) -> Path | None:
        return local_folder(self.repository)

    @property
    def index_folder(self) -> Path | None:
        return None

    @property
    def program(self) -> Restic:
        """restic on this repository."""
        environment, hidden = password_environment(self, self.name)
        words = [f"--option={name}={value}" for name, value in self.options.items()]
        words += [f"--limit-upload={self.limit_upload}"] if self.limit_upload else []
        words += [f"--limit-download={self.limit_download}"] if self.limit_download else []
        words += ["--no-cache"] if self.folder is not None and self.cache is None else []
        if self.cache is not None:
            environment["RESTIC_CACHE_DIR"] = str(self.cache)
        environment["RESTIC_COMPRESSION"] = self.compression
        shown = without_secrets(self.repository)
        return Restic(self.repository, shown, environment, tuple(words), (*hidden, *secrets_of(self.repository)))

    def snapshots(self, *, recent: float = 0.0, **tags: str) -> Sequence[ours.Snapshot]:
        """Ours with these tags, oldest first; none where there is no repository yet. ``recent``: see ``listed``."""
        found = ours.parse_snapshots(self.program.listed(ours.OURS, recent=recent))
        return [one for one in found if tags.items() <= one.tags.items()]

    def is_free(self, library: str, label: str) -> bool:
        return not self.snapshots(recent=_RECENT, library=library, label=label)

    def packaging(self, compression: Compression) -> TreePackaging:
        from scriptorium.stores.trees.package import TreePackaging

        return TreePackaging()

    def put(self, package: Package) -> StoredBackup:
        from scriptorium.stores.trees.package import TreePackage
        from scriptorium.stores.trees.restic.saving import save_contents, save_manifest
        from scriptorium.stores.trees.restic.transfer import RepositoryCopy

        if isinstance(package, RepositoryCopy):
            return self._put_copy(package)
        if not isinstance(package, TreePackage):
            raise UsageError("this store reads the parts where they lie, and takes no archive", on=self.name)
        before = self._made()
        put = secrets.token_hex(8)
        saved = save_contents(self.program, package, put, before)
        package = saved.package
        save_manifest(self.program, package, put)
        verification = saved.read_back(self.program) if saved.had_the_rest else None
        key = f"{package.manifest.library}/{package.label}"
        _put.add((self.repository, key))
        return StoredBackup(
            key,
            package.manifest.library,
            package.label,
            max(package.contents, 1),
            datetime.now(UTC),
            verification=verification,
        )

    def takes(self, other: BackupStore, key: str, manifest: Manifest, label: str) -> bool:
        """``restic copy`` keeps the tags, and with them the label; options are for both repositories."""
        if not isinstance(other, ResticStore) or other.repository == self.repository:
            return False
        alike = all(other.options.get(name, value) == value for name, value in self.options.items())
        return alike and label == key.partition("/")[2]

    def needs(self, other: BackupStore, key: str, manifest: Manifest) -> int:
        return 0

    def taken(
        self, other: BackupStore, key: str, manifest: Manifest, label: str, folder: Path, *, advance: Advance
    ) -> RepositoryCopy:
        from scriptorium.stores.trees.restic.transfer import found

        assert isinstance(other, ResticStore)
        known = ours.backups(other.snapshots(library=manifest.library, label=label))
        return found(other.program, key, manifest, known)

    def _put_copy(self, package: RepositoryCopy) -> StoredBackup:
        from scriptorium.stores.trees.restic.transfer import copy_snapshots, make_alike

        try:
            self.program.run("cat", "config")
        except NoRepository:
            make_alike(self.program, package.source)
        copy_snapshots(self.program, package)
        key, library = package.committed.key, package.manifest.library
        return StoredBackup(key, library, package.label, max(package.size, 1), package.committed.time)

    def _made(self) -> Sequence[ours.Snapshot]:
        """The repository is made where there is none. Returns our snapshots in it."""
        before = self.snapshots(recent=_RECENT)
        if not before:
            self.initialize()
        return before

    def initialize(self) -> str:
        """Make the repository where there is none; see ``stores.care``."""
        try:
            self.program.run("cat", "config")
        except NoRepository:
            self.make()
            return "a repository was made"
        return "the repository is there"

    def make(self) -> None:
        """Make the repository."""
        from scriptorium.stores.trees.restic.saving import make_repository

        make_repository(self.program)

    def list(self, library: str = "") -> Iterator[StoredBackup]:
        found = self.snapshots(library=library) if library else self.snapshots()
        return map(self._stored, ours.backups(found).values())

    def _stored(self, found: ours.Found) -> StoredBackup:
        manifest = found.manifest
        stamp = "/".join(one.id[:16] if one else "-" for one in (manifest, found.contents, found.annotations))
        size = int(manifest.tags.get("bytes", "0") or 0)
        there = found.contents is not None
        return StoredBackup(manifest.key, manifest.library, manifest.label, size, manifest.time, stamp, contents=there)

    def manifest(self, key: str) -> Manifest:
        return loads(self._small(key, ours.MANIFEST, _MANIFEST_FILE))

    def _small(self, key: str, role: str, name: str) -> bytes:
        """A file of the newest snapshot of this role. ``NotFound``."""
        tags = ours.tag_words(ours.tags_of_key(key, role))
        try:
            return self.program.run("dump", f"--tag={tags}", "latest", f"/{name}").stdout
        except (NotFound, NoRepository):
            raise NotFound("there is no such backup", on=self.location(key)) from None

    def visible_damage(self, found: StoredBackup, manifest: Manifest) -> tuple[str, ...]:
        return () if found.contents else ("the snapshot of its contents is missing",)

    def annotations(self, key: str) -> Annotations:
        try:
            return loads_annotations(self._small(key, ours.ANNOTATIONS, _ANNOTATIONS_FILE))
        except NotFound:
            return Annotations()
        except (DamageFound, ToolMissing):  # torn, or a newer program's: it may have held a pin
            return Annotations(pinned=True)

    def annotate(self, key: str, annotations: Annotations) -> None:
        tags = ours.tags_of_key(key, ours.ANNOTATIONS)
        if (self.repository, key) not in _put:
            known = self.snapshots(library=tags["library"], label=tags["label"])
            if not any(one.role == ours.MANIFEST for one in known):
                raise NotFound("there is no such backup", on=self.location(key))
        self.program.run(
            "backup",
            "--stdin",
            f"--stdin-filename={_ANNOTATIONS_FILE}",
            f"--host={socket.gethostname()}",
            f"--tag={ours.tag_words(tags)}",
            "--force",
            input=dumps_annotations(annotations),
        )

    @contextmanager
    def members(
        self, key: str, wanted: Callable[[str], bool] | None = None, *, advance: Advance | None = None
    ) -> Iterator[Iterator[Member]]:
        from scriptorium.stores.trees.restic.reading import recorded

        with recorded(self.program, key, self.location(key)) as record:
            found = record.members(wanted, advance)
            try:
                yield found
            finally:
                found.close()

    def verify(self, key: str, *, share: Share | None = None, advance: Advance | None = None) -> Verification:
        from scriptorium.stores.trees.restic.verification import verified

        return verified(self.program, key, self.location(key), share, advance)

    def remove(self, key: str) -> None:
        _put.discard((self.repository, key))
        library, _, label = key.partition("/")
        present = self.snapshots(library=library, label=label)
        for role in (ours.MANIFEST, ours.CONTENTS, ours.ANNOTATIONS):
            self._forget([one for one in present if one.role == role])

    def reclaim(self) -> None:
        """See ``stores.care``."""
        with contextlib.suppress(NoRepository):
            self.program.run("prune", within=None)

    def _forget(self, snapshots: Sequence[ours.Snapshot], *, prune: bool = False) -> None:
        """``Protected`` if nothing may be removed there. An old restic tries that for most of a minute: once is enough
        for a run."""
        if not snapshots:
            return
        if time.monotonic() - _append_only.get(self.repository, -_STANDS) < _STANDS:
            raise Protected("nothing may be removed from this repository", on=self.name)
        try:
            self.program.run("forget", *(["--prune"] if prune else []), *(one.id for one in snapshots), within=None)
        except Protected:
            _append_only[self.repository] = time.monotonic()
            raise

    def sweep(self, now: datetime, *, grace: timedelta = GRACE, dry_run: bool = False) -> tuple[str, ...]:
        rubbish = [one for one in ours.unreferenced(self.snapshots()) if now - one.time > grace]
        return self._swept(rubbish, dry_run=dry_run)

    def discard_unfinished(self, library: str, created_at: datetime) -> tuple[str, ...]:
        rubbish = ours.unreferenced(self.snapshots(library=library))
        created = ours.created_tag(created_at)
        return self._swept([one for one in rubbish if one.created == created])

    def _swept(self, rubbish: Sequence[ours.Snapshot], *, dry_run: bool = False) -> tuple[str, ...]:
        try:
            if not dry_run:
                self._forget(rubbish, prune=any(one.role == ours.CONTENTS for one in rubbish))
        except Protected as error:
            log.info("%s: what runs left stays: %s", self.name, error)
            return ()
        return tuple(map(str, rubbish))

    def examine(self, *, try_delete: bool) -> Iterator[Finding]:
        """See ``stores.care``."""
        from scriptorium.stores.trees.restic.examination import examine

        return examine(self, try_delete=try_delete)

    def usage(self) -> tuple[int, int | None]:
        free = free_bytes(self.folder) if self.folder is not None else None
        if not self.snapshots():
            return 0, free
        words = ("stats", "--mode=raw-data", "--json", f"--tag={ours.OURS}")
        statistics = json.loads(self.program.run(*words, within=None).stdout)
        return int(statistics["total_size"]), free

    def location(self, key: str) -> str:
        return f"restic:{without_secrets(self.repository)}#{key}"
