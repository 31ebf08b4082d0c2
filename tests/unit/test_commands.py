"""Every command is found by its name, and nothing is loaded for it that it does not need."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer.main

import scriptorium.cli
from scriptorium.cli.main import ROOMS, app

FOLDER = Path(scriptorium.cli.__file__).parent
WITH_COMMANDS = [file.stem for file in FOLDER.glob("*.py") if "@command(app" in file.read_text("utf-8")]


@pytest.mark.parametrize("room", WITH_COMMANDS)
def test_every_command_of_a_module_can_be_called(room: str) -> None:
    made = typer.main.get_group(import_module(f"scriptorium.cli.{room}").app).commands
    named = [name for name, where in ROOMS.items() if where == room]
    assert named
    grouped = len(named) == 1 and named[0] not in made
    assert grouped or sorted(named) == sorted(made)


def test_every_name_leads_to_a_command_with_help() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert list(commands) == list(ROOMS)
    assert all(commands[name].help and commands[name].name == name for name in ROOMS)


@pytest.mark.parametrize(
    ("words", "never"),
    [
        (["--help"], {"prefect", "scriptorium.settings", "kuzu", "psycopg"}),
        (["create", "--help"], {"prefect", "scriptorium.settings", "kuzu", "psycopg"}),
        (["list"], {"prefect", "kuzu", "psycopg", "pandas", "scriptorium.rescue", "scriptorium.adopting"}),
        (["stats"], {"prefect", "kuzu", "psycopg", "pandas", "scriptorium.rescue", "scriptorium.adopting"}),
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


def test_a_mistyped_command_is_guessed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from scriptorium.cli.main import main; main()", "lst"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "list" in done.stderr
