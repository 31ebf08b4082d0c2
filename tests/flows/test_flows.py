"""The flows, run for real against a Prefect server: what they do, what the UI shows of them, what they retry."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task
from prefect_runs import artifact, last_run

from flows.backup import backup
from flows.drill import drill, drill_all
from flows.export import export
from flows.prune import prune
from flows.restore import restore
from flows.tier import tier
from flows.verify import verify
from scriptorium.catalog import Catalog
from scriptorium.errors import (
    DamageFound,
    LibraryBusy,
    NotFound,
    StoreUnavailable,
    UsageError,
)
from scriptorium.model import Backup
from scriptorium.words import Status
from tasks.retry import ONCE, RETRIED
from tasks.stores import upload


def test_backup_is_verified_listed_and_reads_well(chosen: Any) -> None:
    done = backup(library="bibliotheca", name="mine")
    assert done.status is Status.VERIFIED
    assert Catalog(chosen.settings).find("mine").id == done.id
    run, tasks = last_run("backup", tasks=7)
    assert run.name == "manual full backup of bibliotheca"
    names = [one.name for one in tasks]
    label = done.copies[0].label.partition(".tar")[0]
    assert names == [
        "check free space",
        "snapshot kuzu",
        "snapshot data",
        "snapshot config",
        f"archive {label}",
        f"verify {label}",
        "upload to local",
    ]
    report = artifact("backup-bibliotheca")
    assert "verified" in report and "| kuzu |" in report and done.id in report
    assert not list((chosen.backups / ".scriptorium" / "staging").iterdir())


def test_a_backup_that_lacks_a_file_is_degraded_and_so_is_its_run(
    chosen: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = os.open

    def open_(path: Any, *arguments: Any, **given: Any) -> int:
        if os.fspath(path) in (b"a.jpg",) or os.fsencode(path).endswith(b"covers/a.jpg"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, *arguments, **given)

    monkeypatch.setattr(os, "open", open_)
    done = backup(library="bibliotheca")
    assert isinstance(done, Backup) and done.status is Status.DEGRADED and done.unsaved == 1
    for name in ("backup", "tier"):
        run, _ = last_run(name)
        assert run.state.type.value == "COMPLETED" and run.state.name == "Degraded"
        assert "bibliotheca: 1 could not be saved" in run.state.message
        if name == "backup":
            assert tier("daily")[0].status is Status.DEGRADED
    assert "data/covers/a.jpg: cannot be read" in artifact("backup-bibliotheca")
    monkeypatch.setattr(os, "open", real)
    assert verify(ids=[done.id]).checked[0].verification.sound and drill(done.id).proof.proven
    found = Catalog(chosen.settings).find(done.id)
    assert found.status is Status.DEGRADED and found.copies[0].proven_at, "it comes back, and lacks what it lacked"
    restored = restore(done.id, path=str(tmp_path / "out")).restored
    assert restored.files and "data/covers/a.jpg" in restored.lacking[0]


def test_runs_have_names_that_read_well(chosen: Any, tmp_path: Path) -> None:
    done, named = backup(), {"library": "bibliotheca", "store": "local"}
    for call, name in (
        (lambda: verify(), "verify every copy"),
        (lambda: verify(ids=[done.id], **named), f"verify {done.id} of bibliotheca in local"),
        (lambda: prune(dry_run=True), "dry run: prune every library"),
        (lambda: drill(library="bibliotheca"), "drill latest of bibliotheca"),
        (lambda: export(done.id, output=str(tmp_path / "out")), f"export {done.id}"),
    ):
        call()
        assert last_run(name.removeprefix("dry run: ").split()[0])[0].name == name


def test_no_secret_is_a_parameter_or_in_the_report(chosen: Any) -> None:
    backup(library="bibliotheca")
    run, tasks = last_run("backup", tasks=7)
    everything = json.dumps([run.parameters, [one.task_inputs for one in tasks]], default=str)
    assert "very-secret-value" not in everything + artifact("backup-bibliotheca")


def test_side_effects_are_never_cached(chosen: Any) -> None:
    first, second = backup(), backup()
    assert first.id != second.id and len(Catalog(chosen.settings).backups()) == 2


def test_failed_backup_leaves_a_record_and_no_copy(chosen: Any) -> None:
    (chosen.home / "data" / "kuzu" / "bibliotheca.db").write_bytes(b"KUZU" + bytes(4092))
    with pytest.raises(Exception, match="database"):
        backup()
    (record,) = Catalog(chosen.settings).backups()
    assert record.status is Status.FAILED and record.error and not record.copies
    assert not (chosen.backups / "bibliotheca").exists()


def test_wrong_words_are_usage_errors(chosen: Any) -> None:
    for wrong in ({"type": "everything"}, {"tier": "sometimes"}, {"compression": "rar"}):
        with pytest.raises(UsageError):
            backup(**wrong)
    for missing in ({"library": "nope"}, {"to": ["nope"]}):
        with pytest.raises(NotFound):
            backup(**missing)


def test_the_error_of_a_second_backup_names_the_run_that_holds_the_library(chosen: Any) -> None:
    from scriptorium.workspace import lock

    with lock(chosen.settings, "bibliotheca", "a test"), pytest.raises(LibraryBusy, match=f"process {os.getpid()}"):
        backup()


def test_verify_names_what_is_damaged_and_marks_it(chosen: Any) -> None:
    done = backup()
    (checked,) = verify(ids=[done.id]).checked
    assert checked.verification.sound
    archive = chosen.backups / done.copies[0].key
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(data)
    (checked,) = verify().checked
    assert not checked.verification.sound and checked.verification.damage
    assert Catalog(chosen.settings).find(done.id).status is Status.DAMAGED
    assert "damaged" in artifact("verify-all")
    with pytest.raises(DamageFound):
        restore(reference=done.id, path=str(chosen.folder / "out"))
    assert not (chosen.folder / "out").exists()


def test_prune_plans_then_removes(chosen: Any) -> None:
    done: list[Backup] = [backup() for _ in range(3)]
    dry = prune(policy={"last": 1}, dry_run=True)
    assert len(dry.decisions) == 3 and not dry.removed
    assert len(Catalog(chosen.settings).backups()) == 3
    pruned = prune(policy={"last": 1})
    assert set(pruned.removed) == {done[0].id, done[1].id}
    assert [one.id for one in Catalog(chosen.settings).backups()] == [done[2].id]
    assert all(decision.reasons for decision in pruned.decisions)


def quick(options: Any) -> Any:
    return {**options, "retry_delay_seconds": 0, "retry_jitter_factor": None}


def test_only_transient_errors_are_retried() -> None:
    calls = {"transient": 0, "permanent": 0, "once": 0}

    @task(**quick(RETRIED))
    def transient() -> str:
        calls["transient"] += 1
        if calls["transient"] < 3:
            raise StoreUnavailable("not now")
        return "done"

    @task(**quick(RETRIED))
    def permanent() -> None:
        calls["permanent"] += 1
        raise NotFound("never")

    @task(**quick(ONCE))
    def once() -> None:
        calls["once"] += 1
        raise StoreUnavailable("not now")

    @flow
    def all_three() -> str:
        for failing in (permanent, once):
            failing(return_state=True)
        return transient()

    assert all_three() == "done"
    assert calls == {"transient": 3, "permanent": 1, "once": 1}


def test_backup_folder_is_never_inside_the_backup(new_place: Any, tmp_path: Path, monkeypatch: Any) -> None:
    place = new_place(tmp_path / "inside")
    place.config.write_text(place.config.read_text().replace('path = "backups"', 'path = "library/data/covers/saved"'))
    monkeypatch.setenv("SCRIPTORIUM_CONFIG", str(place.config))
    backup()
    backup()
    restored = restore(reference="latest", path=str(tmp_path / "out")).restored
    assert restored.files and not (tmp_path / "out" / "data" / "covers" / "saved").exists()


def test_drill_proves_a_backup_and_leaves_nothing(chosen: Any) -> None:
    done = backup()
    proof = drill(reference=done.id).proof
    assert proof.proven and proof.tables == 3 and proof.files > 5 and proof.seconds > 0
    found = Catalog(chosen.settings).find(done.id)
    assert found.status is Status.PROVEN and found.copies[0].proven_at == proof.at
    assert "proven" in artifact("drill-bibliotheca")
    assert not list((chosen.backups / ".scriptorium" / "staging").iterdir())


def test_drill_of_a_damaged_copy_is_no_proof(chosen: Any) -> None:
    done = backup()
    archive = chosen.backups / done.copies[0].key
    data = bytearray(archive.read_bytes())
    third = len(data) // 3
    data[third : third + 64] = os.urandom(64)  # one bit of a run of zeros may unpack to the same bytes
    archive.write_bytes(data)
    proof = drill(reference=done.id).proof
    assert not proof.proven and proof.differences
    assert Catalog(chosen.settings).find(done.id).status is Status.DAMAGED
    assert not list((chosen.backups / ".scriptorium" / "staging").iterdir())


def test_every_library_is_drilled_and_one_that_cannot_be_keeps_no_other_from_it(chosen: Any, tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "one").write_text("a page\n")
    files = f'[{{ name = "files", kind = "files", path = "{tmp_path / "pages"}" }}]'
    chosen.config.write_text(f"{chosen.config.read_text()}\n[libraries.aside]\nsources = {files}\n")
    done = backup(library="bibliotheca")
    with pytest.raises(NotFound, match="1 of 2 failed") as failure:
        drill_all()
    assert "aside" in str(failure.value)
    other = backup(library="aside")
    assert [proof.proven for proof in drill_all()] == [True, True]
    assert all(Catalog(chosen.settings).find(one.id).status is Status.PROVEN for one in (done, other))
    archive = chosen.backups / other.copies[0].key
    data = archive.read_bytes()
    archive.write_bytes(data[: len(data) // 2] + b"?" + data[len(data) // 2 + 1 :])
    with pytest.raises(DamageFound, match="aside"):
        drill_all()


def test_missing_covers_are_in_the_report(chosen: Any) -> None:
    chosen.execute(
        "ALTER TABLE Book ADD cover_url STRING", "MATCH (b:Book {id: '1'}) SET b.cover_url = '/covers/gone.jpg'"
    )
    (chosen.home / "data" / "covers" / os.fsdecode(b"\xff.jpg")).write_bytes(b"no book names it")
    backup()
    report = artifact("backup-bibliotheca").splitlines()
    assert "- **warning: covers that a book names and the backup lacks**: 1 (data/covers/gone.jpg)" in report
    unnamed = r"data/covers/a.jpg, data/covers/sub/b.jpg, data/covers/\\xff.jpg"  # Markdown shows one backslash
    assert f"- **check: covers that no book names**: 3 ({unnamed})" in report


def test_a_tier_backs_up_every_library_and_continues_after_a_failure(chosen: Any) -> None:
    chosen.config.write_text(
        chosen.config.read_text()
        + '\n[libraries.broken]\nsources = [{ name = "files", kind = "files", path = "nowhere" }]\n'
        + '\n[tiers.daily]\ntype = "data"\nkeep = { daily = 2 }\n'
    )
    with pytest.raises(NotFound, match="1 of 2 failed") as failure:
        tier(tier="daily")
    assert "broken" in str(failure.value)
    (good,) = (one for one in Catalog(chosen.settings).backups() if one.status.good)
    assert (good.library, good.tier, good.type) == ("bibliotheca", "daily", "data")


def test_switched_off_means_that_schedules_do_nothing(chosen: Any) -> None:
    chosen.config.write_text("enabled = false\n" + chosen.config.read_text())
    assert tier(tier="weekly") == ()
    assert backup().status is Status.VERIFIED, "by hand it works all the same"


def test_a_store_that_is_down_keeps_the_others_from_nothing(chosen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "retry_delay_seconds", [0.0, 0.0])
    (chosen.folder / "down").write_text("a file where the folder should be")
    text = (
        chosen.config.read_text() + '\n[stores.down]\nkind = "local"\npath = "down"\n\n[stores.last]\nkind = "local"\n'
    )
    chosen.config.write_text(text + 'path = "last"\n')
    taken = backup()
    assert taken.status is Status.DEGRADED and [one.store for one in taken.missing] == ["down"]
    assert "the store does not answer" in taken.missing[0].reason
    listed = [one for one in Catalog(chosen.settings).backups(records=False) if one.status.good]
    assert [sorted(copy.store for copy in one.copies) for one in listed] == [["last", "local"]]
