"""Everything that a user or a developer can name is documented in README.md or in docs/."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import typer.main

from scriptorium.cli.main import app
from scriptorium.presets import PRESETS
from scriptorium.sources import AnySource
from scriptorium.stores import KINDS

ROOT = Path(__file__).parents[2]
MAP = (ROOT / "docs" / "map.md").read_text("utf-8")
DOCUMENTS = {path: path.read_text("utf-8") for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
_CODE = re.compile(r"`([^`\n]+)`")
_FENCED = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(group: click.Command | None = None, before: str = "") -> Iterator[str]:
    """Every command of the command line, with the groups it is in."""
    group = group or typer.main.get_command(app)
    if not isinstance(group, click.Group) and not hasattr(group, "commands"):
        yield before
        return
    for name, command in group.commands.items():
        yield from commands(command, f"{before} {name}".strip())


def kinds(union: Any) -> list[str]:
    """The ``kind`` of every member of a union of models."""
    members = typing.get_args(typing.get_args(union)[0]) if typing.get_origin(union) is typing.Annotated else ()
    members = members or typing.get_args(union) or (union,)
    return [member.model_fields["kind"].default for member in members if hasattr(member, "model_fields")]


def is_named(command: str, text: str) -> bool:
    """As something to type, or as a word in code: prose that happens to hold the word does not count."""
    typed = re.compile(rf"scriptorium (--\S+ (\S+ )?)*{re.escape(command)}(?![\w-])")
    return typed.search(text) is not None or any(
        re.match(rf"{re.escape(command)}(?![\w-])", code) for code in _CODE.findall(text)
    )


def unnamed(words: list[str], text: str) -> list[str]:
    return [word for word in words if not is_named(word, text)]


EVERYTHING = "\n".join(DOCUMENTS.values())


def test_every_command_is_named() -> None:
    found = list(commands())
    assert len(found) > 10
    assert unnamed(found, EVERYTHING) == [], "these commands are in no document"


def test_every_kind_of_source_is_named() -> None:
    assert kinds(AnySource)[:1] == ["kuzu"]
    assert unnamed(kinds(AnySource), EVERYTHING) == [], "these kinds of sources are in no document"


def test_every_kind_of_store_is_named() -> None:
    assert "local" in KINDS
    assert unnamed(list(KINDS), EVERYTHING) == [], "these kinds of stores are in no document"


def test_every_preset_is_named() -> None:
    assert unnamed(list(PRESETS), EVERYTHING) == [], "these presets are in no document"


def test_a_command_that_nobody_wrote_about_is_found() -> None:
    """The tests above must be able to fail."""
    text = "`scriptorium create --type full`, `kuzu`, and catalog rebuilds a prefix `recreate`, create"
    assert unnamed(["create", "kuzu", "catalog rebuild", "rebuild", "creat", "s3"], text) == [
        *("catalog rebuild", "rebuild", "creat", "s3")
    ]


def test_every_path_on_the_map_exists() -> None:
    paths = [code for code in _CODE.findall(MAP) if re.fullmatch(r"[\w.-]+(/[\w.-]*)+|[\w-]+\.(py|toml|yaml|md)", code)]
    assert len(paths) > 30
    assert [path for path in paths if not (ROOT / path).exists()] == [], "these are on the map and do not exist"


def test_every_link_of_the_documents_leads_somewhere() -> None:
    broken = [
        f"{path.name}: {target}"
        for path, text in DOCUMENTS.items()
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", _FENCED.sub("", text))
        if "://" not in target and not (path.parent / target).exists()
    ]
    assert broken == []


def test_every_module_at_the_top_is_on_the_map() -> None:
    def shown(path: Path) -> bool:
        return f"`{path.relative_to(ROOT).as_posix()}{'/' if path.is_dir() else ''}`" in MAP

    modules = [
        path
        for path in sorted((ROOT / "scriptorium").iterdir())
        if (path.suffix == ".py" and path.name != "__init__.py") or (path / "__init__.py").exists()
    ]
    assert [path.name for path in modules if not shown(path)] == [], "these exist and are not on the map"
    flows = [path for path in sorted((ROOT / "flows").glob("*.py")) if path.name not in ("__init__.py", "runs.py")]
    assert [path.name for path in flows if not shown(path)] == []


# Packages without unit tests of their own: the commands, the flows and the contract suites test them.
_TESTED_FROM_OUTSIDE = {"server", "sources", "stores", "stores/trees"}


def packages(root: Path) -> set[str]:
    """The folders below ``root`` that hold modules."""
    files = (path for path in root.rglob("*.py") if path.name not in ("__init__.py", "conftest.py"))
    return {path.parent.relative_to(root).as_posix() for path in files}


def test_the_unit_tests_mirror_the_package() -> None:
    code, tests = packages(ROOT / "scriptorium"), packages(ROOT / "tests" / "unit")
    assert tests - code == set(), "no such package in scriptorium/"
    assert code - tests - _TESTED_FROM_OUTSIDE == set(), "packages without unit tests"
