"""The store that keeps backups in a repository of borg."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from scriptorium import process
from scriptorium.errors import DamageFound, NotFound, Protected, StoreRefused, ToolMissing, UsageError
from scriptorium.failpoints import reach
from scriptorium.fs.free_space import free_bytes
from scriptorium.manifest import dumps_annotations, loads, loads_annotations
from scriptorium.members import Member
from scriptorium.model import Annotations, Manifest, Verification
from scriptorium.progress import Advance
from scriptorium.stores.base import GRACE, Package, Share, StoredBackup, StoreFeatures
from scriptorium.stores.care import Finding
from scriptorium.stores.trees.borg import archives as ours
from scriptorium.stores.trees.borg.failures import NoRepository, ReadOnly
from scriptorium.stores.trees.borg.program import Borg, local_folder, passphrase_of
from scriptorium.stores.trees.password import PasswordSettings
from scriptorium.words import Compression

if TYPE_CHECKING:
    from scriptorium.stores.trees.package import TreePackaging

# What saves and reads is imported where it is used: a command that only lists loads none of it.
_MANIFEST_FILE, _ANNOTATIONS_FILE = "manifest.json", "annotations.json"
_UNENCRYPTED = ("none", "authenticated", "authenticated-blake2")
_COMPRESSION = r"(auto,)?(none|lz4|(zstd|zlib|lzma)(,\d{1,2})?)"


def _passphrase_of_borg() -> dict[str, str]:
    if command := process.variable("BORG_PASSCOMMAND"):
        return {"password_command": command}
    return {"password_env": "BORG_PASSPHRASE"} if process.variable("BORG_PASSPHRASE") else {}


class BorgStore(PasswordSettings):
    """A repository of borg, ``repository`` in its own words: a folder, or ``ssh://USER@HOST:PORT/PATH``.

    The passphrase is in a file, in a variable, or printed by a command. ``encryption``: of a repository that is made
    here. ``compression``: of new data, in borg's words. ``ssh_command``: instead of ``ssh``; ``remote_path``: borg on
    the server. ``limit_upload``: KiB per second to a server, 0 for no limit. ``lock_wait``: seconds to wait for another
    run. ``base``: the folder for borg's cache, its keys and what it knows of repositories.
    """

    kind: Literal["borg"] = "borg"
    name: str = "borg"
    repository: str
    encryption: Literal[
        "repokey-blake2", "repokey", "keyfile-blake2", "keyfile", "authenticated-blake2", "authenticated", "none"
    ] = "repokey-blake2"
    compression: str = Field(default="lz4", pattern=rf"^{_COMPRESSION}$")
    ssh_command: str = ""
    remote_path: str = ""
    limit_upload: int = Field(default=0, ge=0)
    lock_wait: int = Field(default=600, ge=0)
    base: Path | None = None

    @classmethod
    def from_url(cls, url: str) -> Mapping[str, object] | None:
        """``borg:REPOSITORY``, in borg's own words; the passphrase where borg looks for it."""
        if not url.startswith("borg:"):
            return None
        repository = url.removeprefix("borg:")
        if ":" not in repository:
            repository = str(Path(repository).absolute())
        return {"repository": repository, **_passphrase_of_borg()}

    @model_validator(mode="after")
    def _complete(self) -> Self:
        ways = self.password_ways
        if ways > 1 or (ways == 0 and self.encryption != "none"):
            raise ValueError("say in one way where the password is: password_file, password_env or password_command")
        if self.folder is None and not self.repository.startswith("ssh://") and ":/" not in self.repository:
            raise ValueError("the repository is an absolute path, or an address: ssh://USER@HOST:PORT/PATH")
        if "{" in self.repository or "::" in self.repository:
            raise ValueError("the repository has no braces, which are placeholders for borg, and no archive (::)")
        return self

    @property
    def features(self) -> StoreFeatures:
        return StoreFeatures(
            encrypts=self.encryption not in _UNENCRYPTED,
            deduplicates=True,
            remote=self.folder is None,
            partial_read=True,
            resumes=True,
            shares=True,
        )

    @property
    def folder(self) -> Path | None:
        return local_folder(self.repository)

    @property
    def index_folder(self) -> Path | None:
        return None

    @property
    def program(self) -> Borg:
        """borg on this repository."""
        passphrase = passphrase_of(self, self.name)
        environment = {"BORG_PASSPHRASE": passphrase, "BORG_NEW_PASSPHRASE": passphrase}
        if self.encryption == "none":
            environment["BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK"] = "yes"
        if self.base is not None:
            environment["BORG_BASE_DIR"] = str(self.base)
        if self.ssh_command:
            environment["BORG_RSH"] = self.ssh_command
        words = [f"--remote-path={self.remote_path}"] if self.remote_path else []
        words += [f"--upload-ratelimit={self.limit_upload}"] if self.limit_upload else []
        return Borg(self.repository, environment, tuple(words), (passphrase,) if passphrase else (), self.lock_wait)

    def archives(self, library: str = "", label: str = "") -> Sequence[ours.Archive]:
        """Ours, oldest first; none where there is no repository yet."""
        try:
            return self._listed(library, label)
        except NoRepository:
            return ()

    def _listed(self, library: str, label: str) -> Sequence[ours.Archive]:
        words = ("--json", "--consider-checkpoints", f"--glob-archives={ours.glob_of(library, label)}")
        found, encryption = ours.parse_archives(self.program.run("list", *words))
        if encryption == "none" and self.encryption != "none":
            hint = 'name another repository, or set encryption = "none" of the store'
            raise StoreRefused("the repository is not encrypted", on=self.repository, hint=hint)
        return found

    def _found(self, key: str) -> ours.Found | None:
        library, _, label = key.partition("/")
        return ours.backups(self.archives(library, label)).get(key)

    def is_free(self, library: str, label: str) -> bool:
        return not self.archives(library, label)

    def packaging(self, compression: Compression) -> TreePackaging:
        from scriptorium.stores.trees.package import TreePackaging

        return TreePackaging()

    def put(self, package: Package) -> StoredBackup:
        from scriptorium.stores.trees.borg.saving import save_contents, save_manifest
        from scriptorium.stores.trees.package import TreePackage

        if not isinstance(package, TreePackage):
            raise UsageError("this store reads the parts where they lie, and takes no archive", on=self.name)
        self.initialize()
        put, program = ours.new_put(), self.program
        saved = save_contents(program, package, put, self.compression)
        package = saved.package
        verification = saved.read_back(program)
        save_manifest(program, package, put, self.compression)
        library, label = package.manifest.library, package.label
        size = max(package.contents, 1)
        return StoredBackup(f"{library}/{label}", library, label, size, datetime.now(UTC), verification=verification)

    def initialize(self) -> str:
        """Make the repository where there is none; see ``stores.care``."""
        try:
            self._listed("-", "-")  # the name of no library
        except NoRepository:
            self.make()
            return "a repository was made"
        return "the repository is there"

    def make(self) -> None:
        """Make the repository."""
        from scriptorium.stores.trees.borg.saving import make_repository

        make_repository(self.program, self.encryption)

    def list(self, library: str = "") -> Iterator[StoredBackup]:
        return map(self._stored, ours.backups(self.archives(library)).values())

    def _stored(self, found: ours.Found) -> StoredBackup:
        manifest = found.manifest
        stamp = "/".join(one.id[:16] if one else "-" for one in (manifest, found.contents, found.annotations))
        there = found.contents is not None
        return StoredBackup(
            manifest.key, manifest.library, manifest.label, manifest.bytes, manifest.time, stamp, contents=there
        )

    def manifest(self, key: str) -> Manifest:
        found = self._found(key)
        if found is None:
            raise NotFound("there is no such backup", on=self.location(key))
        return loads(self._small(found.manifest, _MANIFEST_FILE))

    def _small(self, archive: ours.Archive, name: str) -> bytes:
        """A file of an archive."""
        return self.program.run("extract", "--stdout", f"::{archive.name}", name)

    def visible_damage(self, found: StoredBackup, manifest: Manifest) -> tuple[str, ...]:
        return () if found.contents else ("the archive of its contents is missing",)

    def annotations(self, key: str) -> Annotations:
        found = self._found(key)
        if found is None or found.annotations is None:
            return Annotations()
        try:
            return loads_annotations(self._small(found.annotations, _ANNOTATIONS_FILE))
        except (DamageFound, ToolMissing):  # torn, or a newer program's: it may have held a pin
            return Annotations(pinned=True)

    def annotate(self, key: str, annotations: Annotations) -> None:
        if (found := self._found(key)) is None:
            raise NotFound("there is no such backup", on=self.location(key))
        manifest = found.manifest
        name = ours.name_of(manifest.library, manifest.label, ours.ANNOTATIONS, ours.new_put(), manifest.created)
        words = ("--files-cache=disabled", f"--stdin-name={_ANNOTATIONS_FILE}", f"::{name}", "-")
        self.program.run("create", *words, input=dumps_annotations(annotations))

    @contextmanager
    def members(
        self, key: str, wanted: Callable[[str], bool] | None = None, *, advance: Advance | None = None
    ) -> Iterator[Iterator[Member]]:
        from scriptorium.stores.trees.borg.reading import recorded

        with recorded(self.program, self._found(key), self.location(key)) as record:
            found = record.members(wanted, advance)
            try:
                yield found
            finally:
                found.close()

    def verify(self, key: str, *, share: Share | None = None, advance: Advance | None = None) -> Verification:
        from scriptorium.stores.trees.borg.verification import verified

        return verified(self.program, self._found(key), self.location(key), share, advance)

    def remove(self, key: str) -> None:
        library, _, label = key.partition("/")
        self._delete(self.archives(library, label))

    def reclaim(self) -> None:
        """See ``stores.care``."""
        with contextlib.suppress(NoRepository):
            self._removing("compact")

    def _removing(self, *words: str) -> None:
        try:
            self.program.run(*words, quick=False)
        except ReadOnly as error:
            raise Protected("nothing may be removed from this repository", on=self.name, hint=error.what) from None

    def _delete(self, archives: Sequence[ours.Archive]) -> None:
        if not archives:
            return
        first, *more = (one.name for one in ours.in_order_of_removal(archives))
        reach("borg.before-removal")
        self._removing("delete", f"::{first}", *more)
        reach("borg.after-removal")

    def sweep(self, now: datetime, *, grace: timedelta = GRACE, dry_run: bool = False) -> tuple[str, ...]:
        rubbish = [one for one in ours.unreferenced(self.archives()) if now - one.time > grace]
        return self._swept(rubbish, dry_run=dry_run)

    def discard_unfinished(self, library: str, created_at: datetime) -> tuple[str, ...]:
        rubbish = ours.unreferenced(self.archives(library))
        created = ours.created_field(created_at)
        return self._swept([one for one in rubbish if one.created == created])

    def _swept(self, rubbish: Sequence[ours.Archive], *, dry_run: bool = False) -> tuple[str, ...]:
        if rubbish and not dry_run:
            self._delete(rubbish)
            if any(one.role == ours.CONTENTS for one in rubbish):
                self.reclaim()
        return tuple(map(str, rubbish))

    def examine(self, *, try_delete: bool) -> Iterator[Finding]:
        """See ``stores.care``."""
        if self.folder is not None and _append_only(self.folder):
            yield Finding("removal", "append-only: what is deleted stays in the repository", None)
        if try_delete:
            yield Finding(
                "removal", "borg marks what is deleted, also where it is append-only; nothing was tried", None
            )

    def usage(self) -> tuple[int, int | None]:
        """Bytes of the repository, with what others have in it, where one of ours is in it."""
        free = free_bytes(self.folder) if self.folder is not None else None
        if not self.archives():
            return 0, free
        statistics: Mapping[str, Mapping[str, Mapping[str, int]]] = json.loads(
            self.program.run("info", "--json", quick=False)
        )
        return int(statistics["cache"]["stats"]["unique_csize"]), free

    def location(self, key: str) -> str:
        return f"borg:{self.repository}#{key}"


def _append_only(folder: Path) -> bool:
    try:
        return "append_only = 1" in (folder / "config").read_text()
    except (OSError, ValueError):
        return False
