"""What retention decides for each store, how good a newer copy must be, and whose clock counts."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from s3_server import s3_server
from store_fixtures import s3_place

from scriptorium.catalog import Catalog
from scriptorium.errors import SettingsError
from scriptorium.model import Annotations, Backup, Proof, Verification
from scriptorium.operations import prune_plan
from scriptorium.operations.prune import carry_out
from scriptorium.operations.prune_plan import kept_by_retention, plan_cleanup, trusted_time
from scriptorium.retention import Decision, Policy
from scriptorium.settings import TierSettings, load
from scriptorium.stores.objects.s3 import S3Store
from scriptorium.words import BackupType, Tier

DAY = timedelta(days=1)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
READ_BACK = Annotations(verification=Verification(NOW, True))
PROVEN = Annotations(proof=Proof(NOW, "local", True, 1.0, 0.0, 0, 0, 0, 0))
Shelf = Any


@pytest.fixture
def shelf(new_shelf: Callable[..., Shelf]) -> Shelf:
    shelf = new_shelf("local", "offsite")
    change(shelf, prune_after="complete", keep=Policy(last=1))
    return shelf


def change(shelf: Shelf, **settings: Any) -> None:
    shelf.settings = shelf.settings.model_copy(update=settings)


def planned(shelf: Shelf, policy: Policy | None = None) -> dict[str, Decision]:
    return {one.candidate.id: one for one in plan_cleanup(shelf.settings, "lib", policy, now=NOW)}


def verdicts(shelf: Shelf, *backups: Backup) -> list[tuple[bool, tuple[str, ...]]]:
    found = planned(shelf)
    return [(found[one.id].keep, found[one.id].goes) for one in backups]


def test_each_store_has_its_rules(shelf: Shelf) -> None:
    first, second, third = (shelf.put(day * DAY, "local", "offsite") for day in range(3))
    change(shelf, keep_in={"offsite": Policy(last=2)})
    assert verdicts(shelf, first, second, third) == [(False, ()), (True, ("local",)), (True, ())]
    reasons = planned(shelf)[second.id].reasons
    assert "local: goes, no keep rule wants it" in reasons and any(one.startswith("offsite: kept, ") for one in reasons)
    removed = carry_out(shelf.settings, "lib", plan_cleanup(shelf.settings, "lib", now=NOW))
    assert removed == (first.id, f"{second.id}@local")
    left = {one.id: [copy.store for copy in one.copies] for one in Catalog(shelf.settings).backups(records=False)}
    assert left == {second.id: ["offsite"], third.id: ["local", "offsite"]}
    assert kept_by_retention(shelf.settings, "lib", "local", now=NOW) == {third.id}
    assert kept_by_retention(shelf.settings, "lib", "offsite", now=NOW) == {second.id, third.id}


def test_the_last_good_copy_stays_until_the_store_that_keeps_the_backup_has_one(shelf: Shelf) -> None:
    """What ``copy --missing`` would make is not made impossible by a cleanup."""
    first, second, third = (shelf.put(day * DAY, "local", "offsite") for day in range(3))
    damaged = Annotations(verification=Verification(NOW, False, ("a damaged block",)))
    key = second.copies[1].key
    shelf.settings.store("offsite").annotate(key, damaged)
    change(shelf, keep_in={"offsite": Policy(last=2)})
    assert verdicts(shelf, first, second, third) == [(True, ("local",)), (True, ()), (True, ())]
    assert f"scriptorium copy {second.id} --to offsite" in planned(shelf)[second.id].reasons[0]
    assert carry_out(shelf.settings, "lib", plan_cleanup(shelf.settings, "lib", now=NOW)) == (f"{first.id}@local",)
    assert verdicts(shelf, second) == [(True, ())]
    shelf.settings.store("offsite").annotate(key, READ_BACK)
    assert verdicts(shelf, first, second, third) == [(False, ()), (True, ("local",)), (True, ())]
    shelf.settings.store("offsite").annotate(key, damaged)
    unproven = Proof(NOW, "offsite", False, 1.0, 0.0, 0, 0, 0, 0, differences=("a row differs",))
    shelf.settings.store("offsite").annotate(key, Annotations(proof=unproven))
    assert verdicts(shelf, second) == [(True, ())]
    assert f"scriptorium drill {second.id} --from offsite" in planned(shelf)[second.id].reasons[0]
    shelf.settings.store("offsite").annotate(key, damaged)
    change(shelf, keep_in={})
    assert verdicts(shelf, first, second, third)[1] == (False, ()), "no store keeps it by its rules"
    change(shelf, keep_in={"offsite": Policy(last=2)})
    assert not planned(shelf, Policy(last=1))[second.id].keep, "a person names other rules"


def test_the_newest_of_each_store_stays(shelf: Shelf) -> None:
    """A store that was away for weeks still has its newest copy."""
    old = shelf.put(timedelta(0), "offsite")
    older, newest = shelf.put(DAY, "local"), shelf.put(2 * DAY, "local")
    assert verdicts(shelf, old, older, newest) == [(True, ()), (False, ()), (True, ())]


def test_a_tier_has_rules_of_its_own_in_a_store(shelf: Shelf) -> None:
    daily = [shelf.put(day * DAY, "local", "offsite", tier=Tier.DAILY) for day in range(4)]
    tiers = {Tier.DAILY: TierSettings(keep=Policy(last=1), keep_in={"offsite": Policy(last=3)})}
    change(shelf, tiers=tiers, keep=Policy())
    assert verdicts(shelf, *daily) == [(False, ()), (True, ("local",)), (True, ("local",)), (True, ())]


@pytest.mark.parametrize(
    ("after", "annotations", "goes"),
    [
        ("complete", None, True),
        ("verified", None, False),
        ("verified", READ_BACK, True),
        ("proven", READ_BACK, False),
        ("proven", PROVEN, True),
    ],
)
def test_a_copy_goes_only_after_a_newer_one_that_is_good_enough(
    shelf: Shelf, after: str, annotations: Annotations | None, goes: bool
) -> None:
    old = shelf.put()
    shelf.put(DAY, annotations=annotations)
    change(shelf, prune_after=after)
    found = planned(shelf)[old.id]
    assert found.keep is not goes
    assert goes or found.reasons[-1].startswith(f"no newer copy in local is {after}: scriptorium ")
    assert not planned(shelf, Policy(last=1))[old.id].keep, "a person who names the rules needs no proof"


def test_a_proof_counts_in_its_own_store_and_for_what_it_holds(shelf: Shelf) -> None:
    change(shelf, prune_after="proven")
    old, *_ = shelf.put(), shelf.put(DAY, "offsite", annotations=PROVEN), shelf.put(DAY, "local")
    assert planned(shelf)[old.id].keep
    shelf.put(2 * DAY, type=BackupType.CONFIG, annotations=PROVEN)
    assert planned(shelf)[old.id].keep
    shelf.put(3 * DAY, annotations=PROVEN)
    assert not planned(shelf)[old.id].keep


def test_a_copy_that_became_the_newest_of_its_store_stays(shelf: Shelf) -> None:
    first, second = (shelf.put(day * DAY, "local", "offsite") for day in range(2))
    decisions = plan_cleanup(shelf.settings, "lib", now=NOW)
    shelf.settings.store("offsite").remove(next(copy.key for copy in second.copies if copy.store == "offsite"))
    assert carry_out(shelf.settings, "lib", decisions) == ()
    assert {one.id for one in Catalog(shelf.settings).backups(records=False)} == {first.id, second.id}


def test_an_unknown_store_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "scriptorium.toml"
    text = '[libraries.lib]\nsources = [{ name = "up", kind = "files", path = "up" }]\n[stores.local]\npath = "local"\n'
    for more in ("[keep_in.vault]\nlast = 1\n", "[tiers.daily.keep_in.vault]\nlast = 1\n"):
        file.write_text(text + more)
        with pytest.raises(SettingsError, match="keep_in names the store 'vault'"):
            load(file, {})


# --- whose clock counts -----------------------------------------------------------------------------------------------


class Ahead(datetime):
    """A clock of this machine that is three years ahead."""

    @classmethod
    def now(cls, tz: Any = None) -> Ahead:
        return cls.fromtimestamp(time.time() + 3 * 365 * 86_400, tz)


def test_a_clock_that_is_ahead_makes_no_backup_old(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    assert abs(trusted_time(shelf.settings) - datetime.now(UTC)) < timedelta(seconds=10), "nothing is stored yet"
    shelf.put()
    monkeypatch.setattr(prune_plan, "datetime", Ahead)
    assert trusted_time(shelf.settings) - datetime.now(UTC) < timedelta(days=1, seconds=1)


def test_the_clock_of_a_server_counts(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = S3Store(name="bucket", **s3_place(s3_server()))
    change(shelf, stores={**shelf.settings.stores, "bucket": bucket})
    monkeypatch.setattr(prune_plan, "datetime", Ahead)
    assert abs(trusted_time(shelf.settings) - datetime.now(UTC)) < timedelta(seconds=10)
    monkeypatch.setattr(S3Store, "time", lambda _: datetime.now(UTC) + timedelta(days=9999))
    monkeypatch.undo()
    assert trusted_time(shelf.settings) <= datetime.now(UTC), "a server that is ahead makes no backup old either"
