"""A backup on its way from one repository into another, by ``restic copy``: its two snapshots, the manifest last."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from scriptorium.errors import DamageFound
from scriptorium.failpoints import reach
from scriptorium.model import Manifest
from scriptorium.progress import Advance, step
from scriptorium.stores.trees.restic import snapshots as ours
from scriptorium.stores.trees.restic.program import Restic

log = logging.getLogger(__name__)

_ITS = ("RESTIC_PASSWORD", "RESTIC_PASSWORD_FILE", "RESTIC_PASSWORD_COMMAND")


@dataclass(frozen=True, slots=True)
class RepositoryCopy:
    """A backup in another repository (``source``), as a package. ``contents``, ``committed``: the snapshots of its
    contents and of its manifest."""

    label: str
    manifest: Manifest
    source: Restic
    contents: ours.Snapshot
    committed: ours.Snapshot

    @property
    def bytes(self) -> int:
        return 0

    @property
    def size(self) -> int:
        """The bytes of all its files."""
        return int(self.committed.tags.get("bytes", "0") or 0)

    def check(self, *, advance: Advance | None = None) -> None:
        """There is no copy yet that could be read back."""
        return None


def found(source: Restic, key: str, manifest: Manifest, known: Mapping[str, ours.Found]) -> RepositoryCopy:
    """The backup as a package. ``DamageFound`` if its contents are missing."""
    there = known.get(key)
    if there is None or there.contents is None:
        raise DamageFound("the snapshot of its contents is missing", on=f"{source.name}#{key}")
    return RepositoryCopy(there.manifest.label, manifest, source, there.contents, there.manifest)


def make_alike(target: Restic, source: Restic) -> None:
    """Make a repository that cuts files as the source does: so equal contents are stored once."""
    _both(target, source).run("init", "--copy-chunker-params", making=True)


def copy_snapshots(target: Restic, package: RepositoryCopy) -> None:
    """Only what the target does not have is sent; a snapshot that an earlier try copied is left as it is."""
    program = _both(target, package.source)
    for snapshot in (package.contents, package.committed):
        reach("restic.before-copy")
        with step("copying with restic", str(snapshot)):
            program.run("copy", snapshot.id, within=None)
    reach("restic.copied")


def _both(target: Restic, source: Restic) -> Restic:
    """restic on the target, with the source as the repository that is read."""
    own = {option.partition("=")[0] for option in target.options if not option.startswith("--option=")}
    more = [one for one in source.options if one not in target.options and one.partition("=")[0] not in own]
    read = {name.replace("RESTIC_", "RESTIC_FROM_"): source.environment.get(name, "") for name in _ITS}
    return replace(
        target,
        name=f"{target.name}, from {source.name}",
        environment={
            **source.environment,
            **target.environment,
            **read,
            "RESTIC_FROM_REPOSITORY": source.address,
            "RESTIC_FROM_REPOSITORY_FILE": "",
        },
        options=(*target.options, *(one for one in more if one != "--no-cache")),
        secrets=(*target.secrets, *source.secrets),
    )
