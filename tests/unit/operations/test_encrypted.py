"""A library whose archives are encrypted: on a host with the key, and on one without it."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import backup_setup
import pytest
import real_backup
from age_keys import new_key

from scriptorium.catalog import Catalog
from scriptorium.errors import KeyMissing, UsageError
from scriptorium.model import Manifest
from scriptorium.operations.drill import drill
from scriptorium.operations.restore import plan_restore, restore
from scriptorium.operations.verify import verify
from scriptorium.report.report import Fields
from scriptorium.report.show import show_report
from scriptorium.report.verify import verify_report
from scriptorium.requests import DrillRequest, RestoreRequest, VerifyRequest
from scriptorium.rescue.__main__ import main as rescue
from scriptorium.settings import Settings, load
from scriptorium.words import Compression, Status

home, tmp_path = backup_setup.home, backup_setup.tmp_path  # fixtures of these tests
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclasses.dataclass(frozen=True)
class Vault:
    """A library with one encrypted store, as several hosts see it."""

    home: backup_setup.Home
    recipient: str

    def settings(self, identity: str = "", recipients: str = "", names: str = "readable") -> Settings:
        given = f'identity = "{identity}"\n' if identity else ""
        text = self.home.file.read_text().partition("[stores.local]")[0]
        file = self.home.folder / "encrypted.toml"
        file.write_text(
            f'{text}[stores.vault]\nkind = "local"\npath = "vault"\n'
            f'[stores.vault.age]\nrecipients = ["{recipients or self.recipient}"]\nnames = "{names}"\n{given}'
        )
        return load(file, {})

    @property
    def archive(self) -> Path:
        (found,) = (self.home.folder / "vault" / "lib").glob("*.age")
        return found

    @property
    def beside(self) -> str:
        return self.archive.with_name(f"{self.archive.name}.json").read_text()

    def restored(self, settings: Settings) -> None:
        into = self.home.folder / "back"
        restore(settings, RestoreRequest(reference="latest", path=str(into)))
        for name in ("covers/a.jpg", "notes.txt"):
            assert (into / "data" / name).read_bytes() == (self.home.folder / "data" / name).read_bytes()
        shutil.rmtree(into)


@pytest.fixture
def vault(home: backup_setup.Home) -> Vault:
    return Vault(home, new_key(home.folder / "key.txt"))


def taken(settings: Settings, compression: Compression = Compression.GZIP) -> Manifest:
    return real_backup.take(settings, NOW, compression=compression)


@pytest.mark.parametrize("compression", list(Compression))
def test_with_the_key_everything_works_as_without_encryption(vault: Vault, compression: Compression) -> None:
    settings = vault.settings("key.txt")
    made = taken(settings, compression)
    assert made.archive is not None and made.archive.encryption == f"age {vault.recipient}"
    assert vault.archive.name == f"full_20260102_030405{compression.ending}.age" == made.archive.name
    assert b"age-encryption.org" in vault.archive.read_bytes()[:30]
    (checked,) = verify(settings, VerifyRequest(ids=("latest",))).checked
    assert checked.verification.sound and checked.verdict == "sound" and not checked.verification.unopened
    assert drill(settings, DrillRequest()).proof.proven
    assert Catalog(settings).find("latest").status is Status.PROVEN
    vault.restored(settings)


def test_a_host_without_the_key_verifies_the_bytes_and_leaves_the_drill_to_another(vault: Vault) -> None:
    settings = vault.settings()
    made = taken(settings)
    assert Catalog(settings).find("latest").status is Status.VERIFIED
    shown = show_report(Catalog(settings).find("latest"), made, [], None, NOW)
    assert isinstance(shown.blocks[0], Fields) and shown.blocks[0].pairs["encrypted for"] == vault.recipient
    result = verify(settings, VerifyRequest(ids=("latest",)))
    (checked,) = result.checked
    assert checked.verification.sound and "no key" in checked.verification.unopened
    assert vault.recipient in checked.verification.unopened
    assert "without its key" in verify_report(result).verdict
    assert verify_report(result).document["checked"][0]["unopened"] == checked.verification.unopened  # type: ignore[index]
    with pytest.raises(KeyMissing, match=vault.recipient) as left:
        drill(settings, DrillRequest())
    assert "host that has the key" in left.value.hint
    assert Catalog(settings).find("latest").status is Status.VERIFIED, "a missing key does not change the status"
    assert drill(vault.settings("key.txt"), DrillRequest()).proof.proven


def test_a_host_without_the_key_finds_damage(vault: Vault) -> None:
    settings = vault.settings()
    taken(settings)
    whole = vault.archive.read_bytes()
    for data, verdict in (
        (whole[:-1], "truncated"),
        (whole[:999] + bytes([whole[999] ^ 1]) + whole[1000:], "altered archive"),
        (whole + b"more", "altered archive"),
    ):
        vault.archive.write_bytes(data)
        for chosen in (settings, vault.settings("key.txt")):
            (checked,) = verify(chosen, VerifyRequest()).checked
            assert not checked.verification.sound
            if chosen is settings:
                assert checked.verification.damage[0].startswith(verdict)


@pytest.mark.parametrize("identity", ["", "other.txt", "gone.txt", "key-that-is-none.txt"])
def test_a_missing_or_wrong_key_stops_a_restore_at_its_preflight(vault: Vault, identity: str) -> None:
    taken(vault.settings())
    new_key(vault.home.folder / "other.txt")
    (vault.home.folder / "key-that-is-none.txt").write_text("AGE-SECRET-KEY-1NONE\n")
    settings = vault.settings(identity)
    before = sorted(vault.home.folder.rglob("*"))
    for request in (
        RestoreRequest(reference="latest"),
        RestoreRequest(reference="latest", path=str(vault.home.folder / "back")),
    ):
        plan = plan_restore(settings, request)
        with pytest.raises(KeyMissing, match=vault.recipient):
            plan.preflight.require()
    assert [path for path in before if not path.exists()] == []
    assert not (vault.home.folder / "back").exists()


def test_an_old_key_opens_what_was_encrypted_for_it(vault: Vault) -> None:
    taken(vault.settings())
    new = new_key(vault.home.folder / "new.txt")
    both = vault.home.folder / "both.txt"
    both.write_text((vault.home.folder / "key.txt").read_text() + (vault.home.folder / "new.txt").read_text())
    vault.restored(vault.settings("both.txt", recipients=new))


def test_names_of_files_are_beside_the_archive_only_where_that_is_wanted(vault: Vault) -> None:
    (vault.home.folder / "data" / "locked").mkdir()
    taken(vault.settings())
    assert "notes.txt" in vault.beside
    shutil.rmtree(vault.home.folder / "vault")
    settings = vault.settings("key.txt", names="encrypted")
    taken(settings)
    assert "notes.txt" not in vault.beside and "a.jpg" not in vault.beside
    assert json.loads(vault.beside)["files"]["count"] == 6
    assert verify(settings, VerifyRequest(ids=("latest",))).checked[0].verification.sound
    assert verify(vault.settings(names="encrypted"), VerifyRequest(ids=("latest",))).checked[0].verification.sound
    assert drill(settings, DrillRequest()).proof.proven
    vault.restored(settings)


def test_two_stores_with_other_recipients_get_an_archive_each_from_one_reading(vault: Vault) -> None:
    other = new_key(vault.home.folder / "other.txt")
    vault.settings("key.txt")
    file = vault.home.folder / "encrypted.toml"
    file.write_text(
        file.read_text() + '[stores.far]\nkind = "local"\npath = "far"\n'
        f'[stores.far.age]\nrecipients = ["{other}", "{vault.recipient}"]\n'
        '[stores.plain]\nkind = "local"\npath = "plain"\n'
    )
    settings = load(file, {})
    taken(settings)
    assert {copy.store for copy in Catalog(settings).find("latest").copies} == {"vault", "far", "plain"}
    (plain,) = (vault.home.folder / "plain" / "lib").glob("*.tar.gz")
    assert plain.read_bytes()[:2] == b"\x1f\x8b"
    assert Catalog(settings).copy_of(Catalog(settings).find("latest"), "far").label.endswith(".age")
    chosen = Catalog(settings).copy_of(Catalog(settings).find("latest"))
    assert chosen.store in ("vault", "plain"), "the copy that can be opened here comes first"


def test_what_is_not_encrypted_is_not_adopted_into_an_encrypted_store(vault: Vault) -> None:
    made = taken(vault.home.settings)
    packaging = vault.settings().store("vault").packaging(Compression.GZIP)
    with pytest.raises(UsageError, match="not encrypted"):
        packaging.adopted(vault.home.store() / "x.tar.gz", made)


def test_stores_check_reports_the_key(vault: Vault) -> None:
    new_key(vault.home.folder / "other.txt")
    for identity, good in (("key.txt", True), ("", None), ("gone.txt", False), ("other.txt", False)):
        settings = vault.settings(identity)
        found = {one.what: one for one in settings.store("vault").examine(try_delete=False)}  # type: ignore[attr-defined]
        assert found["key"].good is good and found["encrypted for"].found == vault.recipient
        assert settings.store("vault").features.encrypts


def test_the_rescue_command_takes_the_file_of_the_key(vault: Vault, capsys: pytest.CaptureFixture[str]) -> None:
    taken(vault.settings(names="encrypted"))
    store, back = str(vault.home.folder / "vault"), vault.home.folder / "rescued"
    assert rescue([store]) == 0
    assert rescue([store, str(back)]) == 1 and vault.recipient in capsys.readouterr().err and not back.exists()
    assert rescue([store, str(back), "--identity", str(vault.home.folder / "key.txt")]) == 0
    assert (back / "data" / "notes.txt").read_text() == "notes"
    vault.archive.with_name(f"{vault.archive.name}.json").unlink()  # the archive alone
    shutil.rmtree(back)
    assert rescue([str(vault.archive), str(back), "--identity", str(vault.home.folder / "key.txt")]) == 0
    assert (back / "data" / "notes.txt").read_text() == "notes"


def test_nothing_in_the_clear_is_left(vault: Vault) -> None:
    taken(vault.settings(names="encrypted"))
    found = subprocess.run(
        ["grep", "-rl", "notes.txt", vault.home.folder / "vault", vault.home.settings.workspace_folder],
        capture_output=True,
        text=True,
    )
    assert found.stdout == ""
