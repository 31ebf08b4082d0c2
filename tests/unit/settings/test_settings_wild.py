"""Wild values: each gets one clear line when the settings are read, and nothing hangs or fails with it later."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from settings_texts import Write, complaint, raised

from scriptorium.errors import UsageError
from scriptorium.operations.prune import policy_of
from scriptorium.retention import Candidate, plan
from scriptorium.settings import load
from scriptorium.words import BackupType, Status, Tier

NINES = "9" * 100_000


def text(
    top: str = "", library: str = "", source: str = 'path = "/srv/up"', store: str = "/srv/store", more: str = ""
) -> str:
    sources = library or f'sources = [{{ name = "up", kind = "files", {source} }}]'
    return f'{top}\n[libraries.o]\n{sources}\n[stores.local]\nkind = "local"\npath = "{store}"\n{more}\n'


def kuzu(setting: str) -> str:
    return text(source=f'path = "/srv/up" }}, {{ name = "g", kind = "kuzu", path = "/srv/g.db", {setting}')


def postgres(setting: str) -> str:
    return text(
        source=f'path = "/srv/up" }}, {{ name = "p", kind = "postgres", database = "postgresql://h/d", {setting}'
    )


WILD = {
    "a pardon without end": (text("keep_previous = inf"), "keep_previous"),
    "a pardon that is no number": (text("keep_previous = nan"), "keep_previous"),
    "a pardon of ages": (text("keep_previous = 1e308"), "keep_previous"),
    "a pardon without end by its old name": (text("keep_former = inf"), "keep_previous"),
    "a pardon by both names": (text("keep_previous = 1\nkeep_former = 1"), "'keep_former' is the old name"),
    "a negative pardon": (text("keep_previous = -1.0"), "keep_previous"),
    "endless space": (text("space_factor = 1e308"), "space_factor"),
    "a number of 100,000 digits": (text(f"keep_previous = {NINES}"), "digits"),
    "an age of ages": (text(more="[keep]\nmax_age = 99999999999"), "keep.max_age"),
    "a count of ages": (text(more=f"[keep]\nmax_count = {10**30}"), "keep.max_count"),
    "days of ages": (text(more=f"[keep]\ndaily = {10**30}"), "keep.daily"),
    "days of a tier": (text(more=f"[tiers.daily]\nkeep = {{ daily = {10**30} }}"), "tiers.daily.keep.daily"),
    "days that are a truth": (text(more="[keep]\ndaily = true"), "true or false"),
    "a pardon that is a truth": (text("keep_previous = true"), "true or false"),
    "space that is a truth value": (text("space_factor = false"), "true or false"),
    "an age that is a truth": (text(more="[keep]\nmax_age = true"), "true or false"),
    "good ones that are a truth": (text(more="[keep]\ngood = true"), "true or false"),
    "good ones of ages": (text(more=f"[keep]\ngood = {10**30}"), "keep.good"),
    "a duration of ages": (text(more=f'[keep]\nwithin = "{"9" * 5000}d"'), "keep.within"),
    "a year beyond 9999": (text(more="[keep]\nmax_age = 10000-01-01"), "not valid TOML"),
    "a long pattern": (text(source=f'path = "/u", exclude = ["{"a" * 5000}"]'), "4096"),
    "an empty pattern": (text(source='path = "/u", include = [""]'), "matches nothing"),
    "a pattern of slashes": (text(source='path = "/u", include = ["//"]'), "matches nothing"),
    "a range backwards": (text(source='path = "/u", include = ["*.txt", "x/[z-a]"]'), "runs backwards: [z-a]"),
    "a pattern of a NUL": (text(source='path = "/u", exclude = ["a\\u0000b"]'), "matches nothing"),
    "a store at the root": (text(store="/"), "root of all folders"),
    "a store at the root by its way": (text(store="/srv/../."), "root of all folders"),
    "a store of the kernel's": (text(store="/proc/x"), "/proc/x"),
    "a store that is a device": (text(store="/dev/null"), "/dev/null"),
    "a store around the source": (text(source='path = "/srv/store/a/b"'), "lies inside the store 'local'"),
    "a workspace at the root": (text('workspace = "/"'), "the workspace is the root"),
    "a workspace that is the source": (text('workspace = "/srv/up"'), "is the workspace"),
    "a workspace around the source": (text('workspace = "/srv"'), "lies inside the workspace"),
    "a workspace that is the store": (text('workspace = "/srv/store"'), "is the store 'local'"),
    "an application at the root": (text(library='preset = "bibliotheca"\nhome = "/"'), "libraries.o.home"),
    "a source at the root": (text(source='path = "/"'), "root of all folders"),
    "the same source twice": (text(source='path = "/u" }, { name = "v", kind = "files", path = "/u"'), "are the same"),
    "a long path": (text(source=f'path = "/{"a" * 300}"'), "too long for any filesystem"),
    "a long path in the archive": (
        text(source=f'path = "/u", at = "{"a/" * 3000}b"'),
        "cannot be a path in an archive",
    ),
    "a long name": (text().replace('"up"', f'"{"u" * 101}"'), "100 characters"),
    "an empty path": (text(source='path = ""'), "libraries.o.sources.up.path"),
    "patience without end": (kuzu("patience = inf"), "patience"),
    "patience of ages": (kuzu("patience = 1e308"), "patience"),
    "a process of no machine": (kuzu("quiesce = { pid = 99999999999 }"), "quiesce.pid"),
    "a pause without end": (kuzu("quiesce = { pid = 2, limit = inf }"), "quiesce.limit"),
    "a wait without end": (postgres("lock_timeout = inf"), "lock_timeout"),
    "a standstill of ages": (postgres("stall_timeout = 1e308"), "stall_timeout"),
    "previous ones of ages": (postgres(f"previous = {10**30}"), "previous"),
    "previous ones by their old name": (postgres(f"former = {10**30}"), "former"),
    "previous ones by both names": (postgres("previous = 1, former = 1"), "former"),
    "health without end": (
        text(library='health = { command = ["a"], within = inf }\nsources = []'),
        "health.within",
    ),
    "an address that is none": (text(library='health = { url = "http://[::1" }\nsources = []'), "health.url"),
    "an address without a host": (text(library='health = { url = "http://" }\nsources = []'), "health.url"),
    "an address with a wild port": (text(library='health = { url = "http://a:99999999" }\nsources = []'), "health.url"),
    "a command of nothing": (text(library='health = { command = [""] }\nsources = []'), "health.command"),
    "nested deeply": (text(f"x = {'[' * 5000}{']' * 5000}"), "nested too deeply"),
    "a key with a line break": (text('"a\\u001b\\nerror: x" = 1'), "a\\x1b\\nerror: x: unknown key"),
    "a key of 100,000 letters": (text(f'"{"k" * 100_000}" = 1'), "unknown key"),
    "a time zone out of its folder": (text('timezone = "../../etc/passwd"'), "timezone"),
    "thousands of wrong values": (text(source=f'path = "/u", exclude = [{",".join(["1"] * 5000)}]'), "and 4995 more"),
}


@pytest.mark.parametrize("name", WILD)
def test_one_clear_line(write: Write, name: str) -> None:
    written, message = WILD[name]
    began = time.monotonic()
    answer = complaint(write, written)
    assert message in answer
    assert "\n" not in answer and len(answer) < 3000
    assert time.monotonic() - began < 10


SOUND = {
    "a mark of Windows before the text": "\ufeff" + text(),
    "lines of Windows": text().replace("\n", "\r\n"),
    "a store inside the source": text(store="/srv/up/backups"),
    "a workspace inside the source": text('workspace = "/srv/up/work"'),
    "two sources of one folder": text(
        source='path = "/u", include = ["a"] }, { name = "v", kind = "files", path = "/u", include = ["b"]'
    ),
    "a store in memory": text(store="/dev/shm/backups"),
    "a part of the root": text(source='path = "/", include = ["/etc"]'),
    "all there is": text(more='[keep]\ndaily = "unlimited"\nweekly = -1\nmax_age = 36500'),
    "many stars": text(source=f'path = "/u", exclude = ["{"*a" * 1000}b"]'),
    "thousands of patterns": text(source=f'path = "/u", exclude = [{str(list(map(str, range(5000))))[1:-1]}]'),
}


def test_the_old_name_of_keep_previous_is_read(write: Write) -> None:
    file = write(text("keep_former = 3"))
    assert load(file, {}).keep_previous == 3
    assert load(file, {"SCRIPTORIUM__KEEP_FORMER": "4"}).keep_previous == 4
    assert load(file, {"SCRIPTORIUM__KEEP_PREVIOUS": "5"}).keep_previous == 5


@pytest.mark.parametrize("name", SOUND)
def test_what_is_only_unusual_is_taken(write: Write, name: str) -> None:
    assert load(write(SOUND[name]), {}).libraries


def test_a_file_of_many_megabytes_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "scriptorium.toml"
    file.touch()
    os.truncate(file, 5 << 30)
    assert "larger than 1.0 MiB" in raised(lambda: load(file, {}))


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SCRIPTORIUM__KEEP_PREVIOUS", "inf"),
        ("SCRIPTORIUM__KEEP_PREVIOUS", "nan"),
        ("SCRIPTORIUM__KEEP__MAX_AGE", NINES),
        ("SCRIPTORIUM__KEEP__MAX_AGE", "1e308"),
        ("SCRIPTORIUM__KEEP__DAILY", "[" * 5000),
        ("SCRIPTORIUM__STORES__LOCAL__PATH", "/"),
        ("SCRIPTORIUM__STORES__LOCAL__PATH", ""),
        ("SCRIPTORIUM__STORES__LOCAL__KIND", "\udcff"),
        ("SCRIPTORIUM__TIMEZONE", "\udcff"),
        ("SCRIPTORIUM__LIBRARIES", "5"),
        ("SCRIPTORIUM__", "5"),
        ("SCRIPTORIUM____", "5"),
        ("BIBLIOTHECA_BACKUP_MAX_AGE", NINES),
        ("BIBLIOTHECA_BACKUP_MAX_COUNT", "-1"),
        ("BIBLIOTHECA_BACKUP_ENABLED", "perhaps"),
    ],
)
def test_variables_may_be_wild_too(write: Write, variable: str, value: str) -> None:
    assert "\n" not in complaint(write, text(), **{variable: value})


@pytest.mark.parametrize(
    "rules", [{"max_age": 10**30}, {"daily": 10**30}, {"last": -2}, {"max_count": 0}, {"within": "9" * 10 + "d"}]
)
def test_rules_of_the_command_line(rules: dict[str, object]) -> None:
    with pytest.raises(UsageError) as caught:
        policy_of(rules)
    assert caught.value.exit_code == 2


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["last", "daily", "weekly", "yearly", "max_age", "max_count", "good", "within"]),
        st.integers() | st.integers(0, 10**9) | st.floats() | st.from_regex(r"[0-9]{1,12}[ymdh]", fullmatch=True),
    )
)
def test_what_is_taken_never_fails_when_it_is_applied(rules: dict[str, object]) -> None:
    try:
        policy = policy_of(rules)
    except UsageError:
        return
    now = datetime(2026, 1, 1, tzinfo=UTC)
    instants = [now, now - timedelta(days=400), datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)]
    backups = [
        Candidate(str(number), "o", BackupType.FULL, Tier.DAILY, instant, Status.VERIFIED)
        for number, instant in enumerate(instants)
    ]
    assert len(plan(backups, policy, now)) == len(backups)
