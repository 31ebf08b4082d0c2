"""What the WAL of a Kuzu database names is not loaded, and the process that reads it starts no other."""

from __future__ import annotations

import importlib.util
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scriptorium.model import Staged
from scriptorium.quiesce.pause import snapshot
from scriptorium.sources.kuzu import child
from scriptorium.sources.kuzu.source import KuzuSource


def take(database: Path, stage: Path) -> Staged:
    stage.mkdir()
    return snapshot(KuzuSource(path=database), stage, ())


def a_library() -> Path:
    """A shared library of this machine that the reader does not need."""
    found = importlib.util.find_spec("zstandard.backend_c")
    assert found is not None and found.origin is not None
    return Path(found.origin)


def test_an_extension_that_the_wal_loads_is_not_loaded(tmp_path: Path, lab: Any) -> None:
    """It is a program of whoever wrote the WAL. Where it is missing here the database is sound all the same."""
    lab.script(None, tmp_path / "g.db", "CREATE NODE TABLE Plain(id INT64, PRIMARY KEY(id))")
    for number, path in enumerate((a_library(), tmp_path / "gone.kuzu_extension")):
        name = str(path).encode()
        record = b"\x01d" + struct.pack("<Q", len(name)) + name + b"\x02"  # begin, LOAD EXTENSION, commit
        (tmp_path / "g.db.wal").write_bytes(record)
        staged = take(tmp_path / "g.db", tmp_path / f"stage{number}")
        reason = staged.missing_fingerprints[""]
        assert "loads an extension" in reason and str(path) in reason
        assert (tmp_path / f"stage{number}" / "raw" / "g.db.wal").read_bytes() == record


def test_a_confined_process_loads_and_runs_nothing_more() -> None:
    code = (
        "import ctypes, importlib.util, subprocess, sys\n"
        "spec = importlib.util.spec_from_file_location('confinement', sys.argv[1])\n"
        "confinement = importlib.util.module_from_spec(spec); spec.loader.exec_module(confinement)\n"
        "if confinement.confine():\n"
        "    for do in (lambda: ctypes.CDLL(sys.argv[2]), lambda: subprocess.run(['/bin/true'])):\n"
        "        try: do(); print('done')\n"
        "        except OSError as error: print('refused')\n"
        "else: print('no filter')\n"
    )
    argv = [sys.executable, "-c", code, str(Path(child.__file__).with_name("confinement.py")), str(a_library())]
    probe = subprocess.run(argv, capture_output=True, text=True, check=False)
    if probe.stdout == "no filter\n":
        pytest.skip("this kernel has no seccomp filters")
    assert probe.stdout == "refused\nrefused\n", probe.stderr
