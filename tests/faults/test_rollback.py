"""Restores while the application runs unseen, and rollbacks when something is missing."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

# As an application that makes its own backup: closing any descriptor of the file drops its lock.
_LIVING = """
import sys, kuzu
connection = kuzu.Connection(kuzu.Database(sys.argv[1]))
connection.execute("CREATE (:Book {id: 'answered', title: 'answered with 201', pages: 1})")
open(sys.argv[1], "rb").close()
print("open", flush=True)
sys.stdin.read()
connection.close()
"""


def _apart() -> list[str]:
    """The words before a command that make it unable to see our processes, as in another container."""
    words = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if os.geteuid() != 0 or subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespace of processes can be made here")
    return words


@contextmanager
def _application(database: Path) -> Iterator[None]:
    words = [sys.executable, "-c", textwrap.dedent(_LIVING), database]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        yield
        child.communicate("")


def test_a_restore_under_an_application_that_is_not_seen(rig: Any) -> None:
    apart = _apart()
    for operation in ("restore", "undo"):
        with _application(rig.place.database):
            ended = rig.run(operation, {}, before=apart)
            assert ended.status != 0 and "open for writing" in ended.stderr, ended
        assert rig.place.execute("MATCH (b:Book {id: 'answered'}) RETURN count(*)") == [[1]]
        rig.again("restore")
        assert rig.living == rig.new


def test_an_undo_where_the_previous_data_is_gone(rig: Any) -> None:
    rig.again("restore")
    (folder,) = rig.place.home.rglob(".scriptorium-restore-*-data")
    away = folder.with_name("away")
    folder.rename(away)
    ended = rig.run("undo", {})
    assert ended.status != 0 and "cannot be put back" in ended.stderr and "data: not what" in ended.stderr, ended
    away.rename(folder)
    assert rig.living == rig.new, "nothing was changed"
    rig.again("undo")
    assert rig.living == rig.old


def test_an_undo_after_several_restores(database_setup: Any) -> None:
    for operation in ("restore", "restore", "restore-clean"):
        database_setup.again(operation)
        database_setup.place.ask("INSERT INTO odd (at) VALUES ('cellar')")
    before = database_setup.living
    database_setup.again("restore")
    assert database_setup.living != before
    database_setup.again("undo")
    assert database_setup.living == before
    database_setup.again("restore")
