"""Every command is found by its name, and loads only what it needs."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import typer.main

import scriptorium.cli
from scriptorium.cli.main import COMMAND_MODULES, app
from scriptorium.cli.several import worst
from scriptorium.errors import DamageFound, LibraryBusy

FOLDER = Path(scriptorium.cli.__file__).parent
WITH_COMMANDS = [file.stem for file in FOLDER.glob("*.py") if "@command(app" in file.read_text("utf-8")]
# Of the core, what does the work: a list reads settings, and these are read without it.
WORKING = {
    "scriptorium.archive",
    "scriptorium.rescue",
    "scriptorium.restore",
    "scriptorium.operations.adopt",
    "scriptorium.sources.kuzu.capture",
    "scriptorium.sources.kuzu.restore",
    "scriptorium.sources.postgres.connection",
    "scriptorium.sources.postgres.dump.directory",
    "scriptorium.sources.postgres.restore.beside",
}


@pytest.mark.parametrize("module", WITH_COMMANDS)
def test_every_command_of_a_module_can_be_called(module: str) -> None:
    made = typer.main.get_group(import_module(f"scriptorium.cli.{module}").app).commands
    named = [name for name, where in COMMAND_MODULES.items() if where == module]
    assert named
    grouped = len(named) == 1 and named[0] not in made
    assert grouped or sorted(named) == sorted(made)


def test_every_name_leads_to_a_command_with_help() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert list(commands) == list(COMMAND_MODULES)
    assert all(commands[name].help and commands[name].name == name for name in COMMAND_MODULES)


@pytest.mark.parametrize(
    ("words", "never"),
    [
        (["--help"], {"prefect", "scriptorium.settings", "kuzu", "psycopg"}),
        (["create", "--help"], {"prefect", "scriptorium.settings", "kuzu", "psycopg"}),
        (["list"], {"prefect", "kuzu", "psycopg", "pandas", "boto3", "botocore", *WORKING}),
        (["stats"], {"prefect", "kuzu", "psycopg", "pandas", "boto3", "botocore", *WORKING}),
    ],
)
def test_a_command_that_looks_loads_little(words: list[str], never: set[str], tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    settings = tmp_path / "scriptorium.toml"
    settings.write_text(
        f'[libraries.one]\nsources = [{{ name = "pages", kind = "files", path = "{tmp_path / "pages"}" }}]\n'
        f'[stores.local]\nkind = "local"\npath = "{tmp_path / "backups"}"\n'
    )
    program = (
        "import sys\nfrom scriptorium.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end\n"
        f"print(sorted({never!r} & sys.modules.keys()), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["create", "--to", "nowhere"], 5, "no such store"),
        (["create", "--type", "database"], 5, "nothing that a 'database' backup would contain"),
        (["create", "--type", "everything"], 2, "everything"),
        (["create", "--tier", "sometimes"], 2, "sometimes"),
        (["create", "--compression", "rar"], 2, "rar"),
        (["verify", "abcd1234"], 5, "no such backup"),
    ],
)
def test_wrong_options_are_refused_before_prefect_is_loaded(
    words: list[str], code: int, message: str, tmp_path: Path
) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "scriptorium.toml").write_text(
        '[libraries.one]\nsources = [{ name = "pages", kind = "files", path = "pages" }]\n'
        '[stores.local]\nkind = "local"\npath = "backups"\n'
    )
    program = (
        "import sys\nfrom scriptorium.cli.main import main\n"
        "try:\n    main()\nfinally:\n    print('prefect' in sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code and message in done.stderr, done.stderr
    assert done.stderr.splitlines()[-1] == "False"


@pytest.mark.parametrize(
    ("libraries", "words", "code", "message"),
    [
        *(
            (("one", "two"), (word, "latest"), 5, "--library with one of: one, two")
            for word in ("show", "pin", "delete", "verify", "drill", "restore")
        ),
        (("one", "two"), ("show", "latest", "--library", "two"), 5, "no good backup"),
        (("one",), ("show", "latest"), 5, "no good backup"),
        (("one", "two"), ("list", "--library", "all"), 0, ""),
        (("one", "two"), ("stats", "--library", "all"), 0, ""),
        (("one", "two"), ("list", "--library", "three"), 5, "one, two"),
    ],
)
def test_latest_does_not_choose_among_several_libraries(
    libraries: tuple[str, ...], words: tuple[str, ...], code: int, message: str, tmp_path: Path
) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "scriptorium.toml").write_text(
        "".join(
            f'[libraries.{name}]\nsources = [{{ name = "pages", kind = "files", path = "pages" }}]\n'
            for name in libraries
        )
        + '[stores.local]\nkind = "local"\npath = "backups"\n'
    )
    done = subprocess.run(
        [sys.executable, "-c", "from scriptorium.cli.main import main; main()", *words],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == code and message in done.stderr, done.stderr


def test_a_mistyped_command_is_guessed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from scriptorium.cli.main import main; main()", "lst"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "list" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "--json"], "missing argument 'ID'"),
        (["list", "--nonsense", "--json"], "no such option: --nonsense"),
        (["list", "--json", "more"], "more"),
        (["cleanup", "--max-age", "soon", "--json"], "--max-age"),
        (["--json", "nonsense"], "no such command 'nonsense'"),
        (["catalog", "nonsense", "--json"], "no such command 'nonsense'"),
    ],
)
def test_words_that_make_no_command_are_reported_in_two_lines_and_as_json(words: list[str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from scriptorium.cli.main import main; main()", *words],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"] in done.stderr and message in done.stderr
    assert [line[:7] for line in done.stderr.splitlines()] == ["error: ", "  scrip"]


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_have_no_file(closed: str, tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "scriptorium.toml").write_text(
        '[libraries.one]\nsources = [{ name = "pages", kind = "files", path = "pages" }]\n'
        '[stores.local]\nkind = "local"\npath = "backups"\n'
    )
    program = (
        "import os, sys\nfrom scriptorium.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "for number in range(3):\n    os.fstat(number)\n"
        "assert os.open('later', os.O_WRONLY | os.O_CREAT) > 2\n"
    )
    shell = ["sh", "-c", f'"$@" {closed}', "sh", sys.executable, "-c", program, "stats"]
    assert subprocess.run(shell, cwd=tmp_path, timeout=60, check=False).returncode == 0


def _three_libraries(folder: Path, *, missing: tuple[str, ...]) -> None:
    names = ("one", "two", "three")
    for name in names:
        if name not in missing:
            (folder / name).mkdir()
            (folder / name / "page").write_text(name)
    (folder / "scriptorium.toml").write_text(
        "".join(
            f'[libraries.{name}]\nsources = [{{ name = "pages", kind = "files", path = "{name}" }}]\n' for name in names
        )
        + '[stores.local]\nkind = "local"\npath = "backups"\n'
    )


def _create_all(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str, taking: Callable[..., object] | None = None
) -> int:
    """``create --library all`` in this process, with the recipe instead of the flow."""
    from scriptorium import settings
    from scriptorium.cli import operate
    from scriptorium.operations.backup import backup
    from scriptorium.requests import BackupRequest

    def take(_: object, **given: object) -> object:
        if taking is not None:
            taking(**given)
        return backup(settings.load(folder / "scriptorium.toml", {}), BackupRequest.model_validate(given)).backup

    monkeypatch.chdir(folder)
    monkeypatch.setattr(operate, "flow_runs", contextlib.nullcontext)
    monkeypatch.setattr(operate, "carried_out", take)
    monkeypatch.setattr(operate, "current", lambda: settings.load(folder / "scriptorium.toml", {}))
    monkeypatch.setattr("scriptorium.cli.output.manner", operate.manner)
    for name in ("verbose", "quiet", "json", "wrote_json"):
        monkeypatch.setattr(operate.manner, name, False)
    return int(app(["create", "--library", "all", *words], standalone_mode=False) or 0)


def test_a_library_that_fails_ends_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _three_libraries(tmp_path, missing=("one",))
    assert _create_all(tmp_path, monkeypatch) == 5
    captured = capsys.readouterr()
    assert "error: one: the folder does not exist" in captured.err
    assert (
        " of two" in captured.out
        and " of three" in captured.out
        and "1 of 3 libraries have no new backup: one" in captured.out
    )
    assert {path.name for path in (tmp_path / "backups").iterdir() if path.is_dir()} >= {"two", "three"}


def test_in_json_it_is_beside_the_backups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _three_libraries(tmp_path, missing=("two",))
    assert _create_all(tmp_path, monkeypatch, "--json") == 5
    one, three, two = json.loads(capsys.readouterr().out)
    assert (one["library"], three["library"], two["library"]) == ("one", "three", "two")
    assert "does not exist" in two["error"] and two["exit_code"] == 5 and two["hint"]


def test_the_worst_decides_the_exit_code_and_an_interruption_ends_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _three_libraries(tmp_path, missing=())
    ends = {"one": LibraryBusy("busy"), "two": DamageFound("damage"), "three": OSError(28, "No space left on device")}

    def failing(**given: object) -> None:
        raise ends[str(given["library"])]

    assert _create_all(tmp_path, monkeypatch, taking=failing) == 3
    began: list[object] = []

    def interrupted(**given: object) -> None:
        began.append(given["library"])
        raise KeyboardInterrupt

    assert _create_all(tmp_path, monkeypatch, taking=interrupted) == 130 and began == ["one"]


def test_degraded_is_less_than_any_failure() -> None:
    assert (worst([]), worst([0, 8]), worst([8, 4]), worst([4, 1, 8]), worst([1, 3])) == (0, 8, 4, 1, 3)
