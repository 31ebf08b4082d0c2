"""Cron lines of the settings, and the schedules that are made from them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from scriptorium.errors import SettingsError
from scriptorium.settings import CONFIG_VARIABLE, Settings, load
from scriptorium.settings.cron import cron_line
from scriptorium.settings.schedules import Schedule, for_deployments, schedule_of
from scriptorium.words import Tier

PROJECT = Path(__file__).parents[3]
GOOD = """
0 2 * * *|*/15 * * * *|17 4 1,15 * *|0 0 * * 7|5-10/2 1,2 * * *|0 4 * * MON-FRI|0 4 * jan,Dec *|0 4 L * *|0 4 * * 1#1
0 4 ? * *|0 22-2 * * *|0 4 * * 6-1|0 0 29 2 *|59 23 31 12 6|0 0 30 1-3 *|  0   2 * * * |0 4 31 2 1|10/20 * * * *
"""
WRONG = """
often|0 2 * *|0 2 * * * *|60 2 * * *|0 24 * * *|0 2 0 * *|0 2 32 * *|0 2 * 13 *|0 2 * * 8|0 2 * * mon-|*/0 * * * *
0 2 * * 1#6|0 2 * * xyz|-1 2 * * *|0 2 31 2,4 *|0 0 30 2 *|@reboot|0 2 * * 5L|*-5 * * * *|1,,2 * * * *|٣ 2 * * *
0 2 * jän *|R * * * *
"""


def lines(text: str) -> list[str]:
    return text.strip("\n").replace("\n", "|").split("|")


@pytest.mark.parametrize("line", [*lines(GOOD), "@daily", "@Hourly", "@weekly", "@monthly", "@yearly"])
def test_what_is_a_cron_line_here_is_one_to_prefect(line: str) -> None:
    from prefect.client.schemas.schedules import CronSchedule

    assert CronSchedule(cron=cron_line(line), timezone="Europe/Berlin").cron == cron_line(line)


@pytest.mark.parametrize("line", lines(WRONG))
def test_a_wrong_cron_line_is_refused_and_the_error_names_the_field(line: str) -> None:
    with pytest.raises(ValueError, match="cron line"):
        cron_line(line)


def settings(folder: Path, text: str, **variables: str) -> Settings:
    (folder / "library").mkdir(exist_ok=True)
    source = f'{{ name = "files", kind = "files", path = "{folder}/library" }}'
    (folder / "scriptorium.toml").write_text(f"{text}\n[libraries.own]\nsources = [ {source} ]\n")
    return load(folder / "scriptorium.toml", variables)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[tiers.daily]\ncron = "0 25 * * *"', "tiers.daily.cron: the hour of this cron line"),
        ('[tiers.manual]\ncron = "0 2 * * *"', "tiers.manual.cron: no schedule starts this tier"),
        ('timezone = "Mars/Olympus"', "timezone: there is no time zone"),
    ],
)
def test_wrong_ones_are_refused_with_their_key(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(tmp_path, text)
    assert key in str(caught.value)


def test_a_tier_runs_at_the_times_of_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configured = settings(
        tmp_path,
        'timezone = "Asia/Tokyo"\n[tiers.daily]\ncron = "17 4 * * *"\n[tiers.weekly]\ntype = "full"\n'
        '[tiers.monthly]\ncron = ""\n[tiers.hourly]\ncron = "@hourly"\n',
    )
    assert schedule_of(configured, Tier.DAILY) == Schedule("17 4 * * *", "Asia/Tokyo", True)
    assert schedule_of(configured, Tier.HOURLY) == Schedule("0 * * * *", "Asia/Tokyo", True)
    assert not schedule_of(configured, Tier.WEEKLY).active, "a tier of the settings without a cron line has no schedule"
    assert not schedule_of(configured, Tier.MONTHLY).active
    monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path / "scriptorium.toml"))
    made = for_deployments()
    assert made["daily"] == {"cron": "17 4 * * *", "timezone": "Asia/Tokyo", "active": True}
    assert made["maintenance"] == {"timezone": "Asia/Tokyo"}


def test_without_tiers_backups_run_in_the_time_zone_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Australia/Lord_Howe")
    configured = settings(tmp_path, "")
    assert schedule_of(configured, Tier.DAILY) == Schedule("0 2 * * *", "Australia/Lord_Howe", True)
    assert schedule_of(configured, Tier.WEEKLY).active and schedule_of(configured, Tier.MONTHLY).active
    assert not schedule_of(configured, Tier.HOURLY).active


def test_without_settings_the_usual_ones_are_made_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(CONFIG_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert for_deployments()["daily"] == {"cron": "0 2 * * *", "timezone": "UTC", "active": True}
    assert "no settings file" in capsys.readouterr().err
    (tmp_path / "scriptorium.toml").write_text("nonsense = [")
    with pytest.raises(SettingsError):
        for_deployments()
    assert "not valid TOML" in capsys.readouterr().err


def test_every_schedule_of_prefect_yaml_is_made_from_the_settings() -> None:
    for deployment in yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]:
        for schedule in deployment.get("schedules", ()):
            assert schedule["timezone"].startswith("{{ settings."), deployment["name"]
            assert deployment["build"], deployment["name"]
            if deployment["entrypoint"] == "flows.tier:tier":
                assert {text.split(".")[1] for text in schedule.values()} == {deployment["parameters"]["tier"]}
