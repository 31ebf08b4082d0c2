"""Wrong settings: the message for each kind of error."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from settings_texts import SMALL, Write, complaint, raised

from scriptorium.errors import SettingsError
from scriptorium.settings import Settings, load

# --- messages ---------------------------------------------------------------------------------------------------------

WRONG = {
    "not toml": ("[libraries", "not valid TOML"),
    "no library": ('compression = "gzip"\n', "no library is configured"),
    "libraries is no table": ("libraries = 5\n", "'libraries' is a table"),
    "a library is no table": ("[libraries]\nx = 5\n", "'libraries.x' is a table"),
    "stores is no table": (f"stores = 5\n{SMALL}", "'stores' is a table"),
    "neither preset nor sources": ("[libraries.x]\n", "presets: bibliotheca"),
    "preset and sources": ('[libraries.x]\npreset = "bibliotheca"\nsources = []\n', "not both"),
    "unknown preset": ('[libraries.x]\npreset = "none"\n', "known presets: bibliotheca"),
    "preset without home": ('[libraries.x]\npreset = "bibliotheca"\n', "needs 'home'"),
    "preset's unknown key": (
        '[libraries.x]\npreset = "bibliotheca"\nhome = "/a"\nhoem = "/b"\n',
        "unknown key: hoem",
    ),
    "known keys of a preset": (
        '[libraries.x]\npreset = "bibliotheca"\nhome = "/a"\nhoem = "/b"\n',
        "known: data, database_file, exclude, health, home, kuzu",
    ),
    "name of a library": ('[libraries.x]\nname = "y"\npreset = "bibliotheca"\nhome = "/a"\n', "'name' is not a key"),
    "name of a store": (f'{SMALL}[stores.s]\nname = "t"\nkind = "local"\npath = "/a"\n', "'name' is not a key"),
    "unknown key at the top": (f"compresion = 1\n{SMALL}", "compresion: unknown key; known: compression, email"),
    "unknown key of a source": (
        '[libraries.o]\nsources = [{ name = "u", kind = "files", path = "/u", excludes = [] }]\n',
        "excludes: unknown key; known: at, exclude, include, kind, name, path, role: ",
    ),
    "unknown key of a store": (
        f'{SMALL}[stores.s]\nkind = "local"\npath = "/a"\npaht = "/b"\n',
        "paht: unknown key; known: age, kind, path",
    ),
    "unknown key of a tier": (
        f"{SMALL}[tiers.daily]\ncorn = 1\n",
        "corn: unknown key; known: cron, keep, keep_in, libraries",
    ),
    "unknown rule": (f"{SMALL}[keep]\ndayly = 1\n", "dayly: unknown key; known: daily, good, hourly, last"),
    "unknown rule of a tier": (f"{SMALL}[tiers.daily]\nkeep = {{ dayly = 1 }}\n", "unknown key; known: daily"),
    "unknown key of quiesce": (
        '[libraries.o]\nsources = [{ kind = "kuzu", path = "/g", quiesce = { pid = 5, lmit = 2 } }]\n',
        "lmit: unknown key; known: limit, pause_command",
    ),
    "unknown kind of source": ('[libraries.o]\nsources = [{ kind = "mysql", path = "/g" }]\n', "'kuzu'"),
    "no kind of source": ('[libraries.o]\nsources = [{ path = "/g" }]\n', "'kind' is missing; one of: files, kuzu"),
    "unknown kind of store": (f'{SMALL}[stores.s]\nkind = "ftp"\npath = "/a"\n', "'local'"),
    "unknown tier": (f"{SMALL}[tiers.fortnightly]\n", "'weekly'"),
    "unknown type": (f'{SMALL}[tiers.daily]\ntype = "half"\n', "allowed: full, data, database, config"),
    "unknown compression": (f'compression = "rar"\n{SMALL}', "'zstd'"),
    "tier to an unknown store": (f'{SMALL}[tiers.daily]\nto = ["s9"]\n', "names the store 's9', which is not"),
    "tier of an unknown library": (f'{SMALL}[tiers.daily]\nlibraries = ["x"]\n', "names 'x', which is not"),
    "sources are no list": ("[libraries.o]\nsources = {}\n", "list of tables"),
    "no sources": ("[libraries.o]\nsources = []\n", "at least 1"),
    "a source is no table": ('[libraries.o]\nsources = ["/srv"]\n', "list of tables"),
    "library called all": (SMALL.replace("other", "all"), "'all' means every library"),
    "library with a slash": (SMALL.replace("other", '"a/b"'), "a name has letters"),
    "library that is hidden": (SMALL.replace("other", '".a"'), "a name has letters"),
    "store with a slash": (f'{SMALL}[stores."../s"]\nkind = "local"\npath = "/a"\n', "a name has letters"),
    "space factor": (f"space_factor = 0\n{SMALL}", "greater than 0"),
    "space factor that is none": (f"space_factor = inf\n{SMALL}", "finite"),
    "keep nothing": (f"{SMALL}[keep]\nmax_age = 0\n", "greater than or equal to 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_with_what_is_allowed(write: Write, name: str) -> None:
    text, message = WRONG[name]
    assert message in complaint(write, text)


@pytest.mark.parametrize(
    "first, second, message",
    [
        ('name = "a", path = "/1"', 'name = "a", path = "/2", at = "b"', "same name: a"),
        ('name = "a", path = "/1", at = "x"', 'name = "b", path = "/2", at = "x"', "same path in the archive: x"),
        ('name = "a", path = "/1"', 'name = "b", path = "/2", at = "a"', "same path in the archive: a"),
        ('name = "a", path = "/1", at = ""', 'name = "b", path = "/2", at = ""', "same path in the archive: the top"),
        ('name = "a", path = "/1"', 'name = "exports", path = "/2"', "'exports' is the folder"),
        ('name = "a", path = "/1"', 'name = "b", path = "/2", at = "exports/b"', "'exports' is the folder"),
        ('name = "a", path = "/1"', 'name = "../b", path = "/2"', "a name has letters"),
        ('name = "a", path = "/1"', 'name = "b/c", path = "/2"', "a name has letters"),
        ('name = "a", path = "/1"', 'name = "b", path = "/2", at = "../b"', "cannot be a path in an archive"),
        ('name = "a", path = "/1"', 'name = "b", path = "/2", at = "/b"', "cannot be a path in an archive"),
        ('name = "a", path = "/1"', 'name = "b", path = "/2", at = "b/"', "cannot be a path in an archive"),
        ('name = "a", path = "/1"', 'name = "b", path = "/2", at = "b//c"', "cannot be a path in an archive"),
        ('name = "a", path = "/1"', 'name = "b", path = "/2", at = "./b"', "cannot be a path in an archive"),
        ('name = "a", path = "/1"', 'name = "b", path = "/2", at = "manifest.json"', "reserved in every archive"),
    ],
)
def test_sources_that_would_meet_in_an_archive_are_refused(write: Write, first: str, second: str, message: str) -> None:
    text = f'[libraries.o]\nsources = [{{ kind = "files", {first} }}, {{ kind = "files", {second} }}]\n'
    assert message in complaint(write, text)


def test_two_stores_are_two_folders_and_none_of_them_is_a_source(write: Write, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    two = '[stores.a]\nkind = "local"\npath = "real"\n[stores.b]\nkind = "local"\npath = "link"\n'
    assert "the stores 'a' and 'b' are the same folder" in complaint(write, SMALL + two)
    same = SMALL.replace("/srv/up", "link") + '[stores.a]\nkind = "local"\npath = "real"\n'
    assert "the source 'up' of other is the store 'a'" in complaint(write, same)
    inside = SMALL.replace("/srv/up", "real") + '[stores.a]\nkind = "local"\npath = "link/backups"\n'
    assert load(write(inside), {}).never == (
        tmp_path / "link/backups/.scriptorium",
        tmp_path / "link/backups",
    )


def test_a_value_is_never_in_the_complaint(write: Write) -> None:
    """It may be a secret."""
    text = SMALL.replace('path = "/srv/up"', 'path = ["hunter2"], password = "hunter2", role = "hunter2"')
    assert "hunter2" not in complaint(write, text)
    assert "hunter2" not in complaint(write, SMALL, SCRIPTORIUM__SPACE_FACTOR="hunter2")


def test_a_file_that_is_no_text_or_cannot_be_read_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "scriptorium.toml"
    file.write_bytes(b"\xff\xfe")
    assert "not valid TOML" in raised(lambda: load(file, {}))
    assert "cannot be read" in raised(lambda: load(tmp_path, {}))
    file.write_text("x = " + "[" * 100_000)
    raised(lambda: load(file, {}))


# --- whatever is written ----------------------------------------------------------------------------------------------

KNOWN = (
    "libraries stores tiers keep sources preset bibliotheca home path kind local files kuzu name at include exclude"
    " role quiesce pid daily cron type to workspace space_factor compression data database_file engine patience"
    " max_age origin a ~x ../.. /srv/a ~ all exports"
)
WORDS = st.sampled_from([*KNOWN.split(), "", "\0"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | WORDS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(WORDS, below, max_size=4),
    max_leaves=12,
)
LIBRARY = st.dictionaries(WORDS, VALUES, max_size=4) | st.fixed_dictionaries(
    {
        "sources": st.lists(
            st.fixed_dictionaries({"kind": WORDS, "path": VALUES}, optional={"name": VALUES, "at": VALUES})
        )
    }
)


def toml(value: object) -> str:
    """A value as TOML writes it inline; nothing (``None``) is a date, which JSON does not have."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if value is None:
        return "2026-01-02T03:04:05Z"
    if isinstance(value, float):
        return {"nan": "nan", "inf": "inf", "-inf": "-inf"}.get(str(value), f"{value:.6f}")
    return json.dumps(value)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(WORDS, VALUES, max_size=4),
    st.dictionaries(WORDS, LIBRARY, max_size=2),
    st.dictionaries(WORDS | st.text(max_size=8), st.text(max_size=8) | WORDS, max_size=3),
)
def test_whatever_is_written_is_settings_or_a_settings_error(
    top: dict[str, object], libraries: dict[str, object], variables: dict[str, str]
) -> None:
    text = "".join(f"{json.dumps(key)} = {toml(value)}\n" for key, value in {**top, "libraries": libraries}.items())
    environment = {f"SCRIPTORIUM__{name.upper()}": value for name, value in variables.items()}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scriptorium.toml"
        file.write_text(text.encode("utf-8", "replace").decode(), "utf-8")
        try:
            found = load(file, environment)
        except SettingsError as error:
            assert str(error)
        else:
            assert isinstance(found, Settings) and found.libraries and found.stores


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60) | st.text(alphabet='[]{}="\\\n.a5', max_size=40).map(str.encode))
def test_junk_is_a_settings_error(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scriptorium.toml"
        file.write_bytes(data)
        with pytest.raises(SettingsError):
            load(file, {})
