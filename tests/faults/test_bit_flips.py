"""One bit is flipped, anywhere in a store: the damage is found, or is harmless by design, and is never believed.

``make faults`` flips 1,000 bits, the suite 100. Each is restored before the next.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import driver
import pytest

from scriptorium.archive.verification import verify_copy
from scriptorium.catalog import Catalog
from scriptorium.manifest import loads_annotations
from scriptorium.operations.pin import pin_copies
from scriptorium.operations.prune import policy_of
from scriptorium.operations.prune_plan import plan_cleanup

SHARES = {"archive": 45, "database": 20, "manifest": 15, "annotations": 10, "index": 10}  # of a hundred


@contextmanager
def flipped(file: Path, offset: int, bit: int) -> Iterator[None]:
    """The file with one flipped bit."""
    before, times = file.read_bytes(), file.stat()
    data = bytearray(before)
    data[offset] ^= 1 << bit
    file.write_bytes(data)
    try:
        yield
    finally:
        file.write_bytes(before)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize(
    ("count", "seed"), [(100, 1), pytest.param(1000, None, marks=pytest.mark.slow)], ids=["hundred", "thousand"]
)
@pytest.mark.parametrize("kind_of_rig", ["rig", "database_setup"], ids=["kuzu", "postgres"])
def test_every_flipped_bit_of_a_store_is_found(
    request: pytest.FixtureRequest, kind_of_rig: str, count: int, seed: int | None
) -> None:
    rig = request.getfixturevalue(kind_of_rig)
    chance = random.Random(seed)
    print("seed", state := chance.randrange(1 << 32))
    chance.seed(state)
    files = Files(rig)
    kinds = [kind for kind, share in SHARES.items() for _ in range(share * count // 100)]
    unseen = Counter[str]()
    for kind in kinds:
        file, offset = files.spot(kind, chance)
        bit = chance.randrange(8)
        with flipped(file, offset, bit):
            trouble = files.judge(kind, file)
        if trouble:
            unseen[f"{kind}: {trouble} (byte {offset}, bit {bit}, seed {state})"] += 1
    assert not unseen, "\n".join(unseen)
    rig.require_sound()


class Files:
    """Which files may be changed, and what has to notice it."""

    def __init__(self, rig: Any) -> None:
        self._rig = rig
        settings = rig.settings
        self._backups = Catalog(settings).backups(records=False)
        packed = [driver.backup(settings, compression="none")]
        if rig.library == "alexandria":
            rig.place.configure(dump="stream")
            packed.append(driver.backup(rig.settings, compression="none"))
        self._backups = Catalog(settings).backups(records=False)
        self._plain = [one for one in self._backups if one.id in packed]
        self._store = settings.store("second")
        self._index = Path(self._store.location("backup_index.json"))
        self._plan = self._planned()

    def _planned(self) -> object:
        return plan_cleanup(self._rig.settings, self._rig.library, policy_of({"last": 1}))

    def spot(self, kind: str, chance: random.Random) -> tuple[Path, int]:
        if kind == "index":
            return self._index, chance.randrange(self._index.stat().st_size)
        backup = chance.choice(self._plain if kind == "database" else self._backups)
        archive = Path(self._store.location(backup.copies[0].key))
        if kind == "database":
            name, size = self._database(backup)
            start = archive.read_bytes().index(name) + 512
            return archive, chance.randrange(start, start + size)
        file = archive.with_name(
            archive.name + {"archive": "", "manifest": ".json", "annotations": ".marks.json"}[kind]
        )
        return file, chance.randrange(file.stat().st_size)

    def _database(self, backup: Any) -> tuple[bytes, int]:
        """The member that contains the database, or most of its dump, and its size."""
        entries = Catalog(self._rig.settings).manifest(backup.copies[0]).files.entries or ()
        inside = [one for one in entries if one.kind == "file" and one.path.startswith(("data/kuzu/", "postgres/"))]
        largest = max(inside, key=lambda one: one.size)
        return largest.path.encode(), largest.size

    def judge(self, kind: str, file: Path) -> str:
        """Empty if the damage was found or is harmless; else what went wrong."""
        if kind == "index":
            same = Catalog(self._rig.settings).backups(records=False) == self._backups
            return "" if same and self._planned() == self._plan else "the index was believed"
        if kind == "annotations":
            return self._annotations(file)
        archive = file.with_name(file.name.removesuffix(".json"))
        manifest = archive.with_name(archive.name + ".json").read_bytes()
        findings = verify_copy(lambda: archive.open("rb"), manifest, name=archive.name)
        return "" if findings else "verify found nothing"

    def _annotations(self, file: Path) -> str:
        """Annotations that we did not write mean that nothing is known; a cleanup then keeps what may be pinned."""
        try:
            json.loads(file.read_bytes())
            loads_annotations(file.read_bytes())
        except Exception:  # noqa: BLE001  any way of not being read is good
            return ""
        return "damaged annotations were believed"


def test_a_pin_that_cannot_be_read_still_holds(rig: Any) -> None:
    """A bit in the annotations of a pinned backup is flipped: no cleanup may remove the backup for that."""
    oldest = Catalog(rig.settings).backups(records=False)[-1]
    pin_copies(rig.settings, oldest, pinned=True)
    for copy in oldest.copies:
        file = Path(rig.settings.store(copy.store).location(f"{copy.key}.marks.json"))
        file.write_bytes(file.read_bytes().replace(b'"pinned": true', b'"pinned": trud'))
    assert rig.again("cleanup") == ""
    rig.again("verify")
    assert rig.again("cleanup") == ""
    rig.require_sound()
    pin_copies(rig.settings, oldest, pinned=False)
    rig.removed = {oldest.id}
    assert rig.again("cleanup") == oldest.id
