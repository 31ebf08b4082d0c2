"""Children that hang, that ignore the request to end, and that end early: in real operations, with fake programs."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scriptorium import process
from scriptorium.catalog import Catalog
from scriptorium.errors import (
    DamageFound,
    NoSpace,
    ScriptoriumError,
    ToolFailed,
    ToolStalled,
)
from scriptorium.operations.drill import drill
from scriptorium.requests import DrillRequest
from scriptorium.sources.kuzu import child as kuzu_child
from scriptorium.words import Status

# The program that opens a database hangs forever: with a child that hangs too, or ignoring SIGTERM.
HANGING = """
import os, pathlib, signal, subprocess, time
if {stubborn}:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    subprocess.Popen(["sleep", "300"])
pathlib.Path({pids!r}).write_text(str(os.getpid()))
time.sleep(300)
"""


def hanging_engine(rig: Any, *, stubborn: bool) -> Path:
    """The rig's database is opened by an engine that hangs; returns the file with the numbers of its processes."""
    pids = Path(rig.place.folder) / "hanging"
    fake_engine(rig, HANGING.format(stubborn=stubborn, pids=str(pids)))
    return pids


def fake_engine(rig: Any, does: str) -> None:
    """The rig's database is opened by an engine that runs this code when it is imported."""
    folder = rig.place.folder / "engine" / "kuzu"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(does)
    about = folder.with_name("kuzu-0.11.3.dist-info")
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: kuzu\nVersion: 0.11.3\n")
    text = rig.place.config.read_text()
    rig.place.config.write_text(
        text.replace('home = "library"\n', f'home = "library"\nkuzu = {{ engine = "{folder.parent}" }}\n')
    )


def usual_engine(rig: Any) -> None:
    text = rig.place.config.read_text().splitlines(keepends=True)
    rig.place.config.write_text("".join(line for line in text if not line.startswith("kuzu = ")))


def no_child_is_left() -> None:
    """No child of this process is left. A child that runs on may not have our mark, but it has its parent."""
    until = time.monotonic() + 10
    while (left := children()) and time.monotonic() < until:
        time.sleep(0.05)
    assert left == []


def children() -> list[str]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if words[0] != "Z" and (int(words[1]) == os.getpid()) and b"sleep" in command:
            found.append(command.decode())
    return found


SLOW = [pytest.param("restore", marks=pytest.mark.slow), pytest.param("drill", marks=pytest.mark.slow)]


@pytest.mark.parametrize("operation", ["backup", *SLOW])
def test_a_child_that_hangs_is_ended_with_its_children(
    rig: Any, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database could not be examined: it is not reported as damaged."""
    pids = hanging_engine(rig, stubborn=False)
    monkeypatch.setattr(kuzu_child, "SECONDS_AT_LEAST", 0.2)
    monkeypatch.setattr(kuzu_child, "_SLOWEST", 1 << 40)
    began = time.monotonic()
    message = rig.again(operation)
    assert time.monotonic() - began < 60
    assert not alive(int(pids.read_text()))
    no_child_is_left()
    monkeypatch.undo()
    require_not_examined(rig, operation, message, "did not end within")


def require_not_examined(rig: Any, operation: str, message: str, reason: str) -> None:
    """The operation was done, reported that the database could not be examined, and removed nothing that was known
    before."""
    newest = Catalog(rig.settings).backups(records=False)[0]
    if operation == "drill":
        assert reason in message and newest.copies[0].verdict in ("", "not comparable")
        assert newest.status is Status.VERIFIED and rig.living == rig.old
    elif operation == "backup":
        manifest = Catalog(rig.settings).manifest(newest.copies[0])
        assert [reason in part.missing_fingerprints[""] for part in manifest.parts if part.kind == "kuzu"] == [True]
        assert any(reason in warning for warning in manifest.warnings) and rig.living == rig.old
    else:
        assert rig.living == rig.new
    usual_engine(rig)
    if operation == "drill":
        assert drill(rig.settings, DrillRequest()).proof.proven
    rig.again(operation)
    rig.require_tidy(after_grace=True)


LOOKING = ["backup", "drill", pytest.param("restore", marks=pytest.mark.slow)]


@pytest.mark.parametrize("operation", LOOKING)
def test_a_reader_that_the_kernel_ends(rig: Any, operation: str) -> None:
    """As when memory runs out: the database is not reported as damaged, and the archive contains what was copied."""
    fake_engine(rig, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    require_not_examined(rig, operation, rig.again(operation), "the kernel ended the reader")


@pytest.mark.parametrize("operation", LOOKING)
def test_a_reader_with_too_little_memory(rig: Any, operation: str) -> None:
    fake_engine(rig, "raise MemoryError('Unable to allocate memory! The buffer pool is full')\n")
    require_not_examined(rig, operation, rig.again(operation), "too little memory to read it")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


@pytest.mark.parametrize("ask", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("operation", ["backup", SLOW[0]])
def test_a_child_that_ignores_being_asked_is_ended_anyway(rig: Any, operation: str, ask: signal.Signals) -> None:
    """We are asked to end, or are killed, while a child of ours hangs and does not react."""
    pids = hanging_engine(rig, stubborn=True)
    with rig.started(operation, {}) as child:
        wait_for(pids, child.poll)
        child.send_signal(ask)
        status = child.wait(30)
    assert status == (130 if ask is signal.SIGTERM else -9)
    rig.require_no_child()
    assert not alive(int(pids.read_text()))
    usual_engine(rig)
    rig.again("backup")
    assert rig.living == rig.old
    rig.require_tidy(after_grace=True)


def wait_for(file: Path, poll: Callable[[], int | None]) -> None:
    until = time.monotonic() + 60
    while not (file.exists() and file.read_text()):
        assert poll() is None and time.monotonic() < until
        time.sleep(0.02)


# --- PostgreSQL's programs ------------------------------------------------------------------------------------------


def fake(rig: Any, name: str, script: str) -> None:
    """The server's programs, of which ``script`` replaces one; ``$real`` is the real one."""
    tools = Path(rig.place.folder) / "tools"
    programs = rig.place.server.programs
    tools.mkdir(exist_ok=True)
    for program in ("pg_dump", "pg_restore", "pg_dumpall", "psql"):
        if (programs / program).exists():
            write(tools / program, f'exec {programs / program} "$@"')
    version = f'[ "$1" = --version ] && exec {programs / name} --version'
    write(tools / name, f"real={programs / name}\n{version}\n{script}")
    text = rig.place.config.read_text()
    rig.place.config.write_text(text.replace(f'tools = "{programs}"', f'tools = "{tools}"'))


def write(file: Path, script: str) -> None:
    file.write_text(f"#!/bin/bash\n{script}\n")
    file.chmod(0o755)


def true_programs(rig: Any) -> None:
    shutil.rmtree(rig.place.folder / "tools")
    rig.place.configure()


# Where the dump goes: a folder that is named, or standard output.
WHERE = 'for a in "$@"; do case "$a" in --file=*) out="${a#--file=}";; esac; done\n'
EARLY = {
    "a table's rows are cut off": '$real "$@" || exit $?; f=$(ls -S $out/*.dat | head -1); truncate -s -100 "$f"',
    "a table is missing": '$real "$@" || exit $?; rm "$(ls -S $out/*.dat | head -1)"',
    "its contents are cut off": '$real "$@" || exit $?; truncate -s 700 $out/toc.dat',
    "nothing was written": "mkdir $out",
    "it failed": '$real "$@"; echo "pg_dump: error: something happened" >&2; exit 1',
    "it was killed": '$real "$@"; kill -KILL $$',
    "its stream is cut off": '$real "$@" | head -c -2000',
    "its stream ends at once": "exit 0",
    "its stream was killed": '$real "$@" | head -c 3000; kill -KILL $$',
    "its disk is full": 'echo "pg_dump: error: could not write to file: No space left on device" >&2; exit 1',
}


@pytest.mark.parametrize(
    "fault",
    [pytest.param(name, id=name.replace(" ", "-"), marks=() if "cut" in name else pytest.mark.slow) for name in EARLY],
)
def test_a_dump_that_ends_early(database_setup: Any, fault: str) -> None:
    """Most of these end with status 0, as if they had succeeded."""
    rig = database_setup
    rig.place.configure(dump="stream" if "stream" in fault else "stage")
    fake(rig, "pg_dump", f"{WHERE}{EARLY[fault]}")
    with pytest.raises((ToolFailed, DamageFound, NoSpace)) as caught:
        rig.again("backup")
    assert caught.value.exit_code != 0 and str(caught.value)
    assert rig.copies() == rig.before, "nothing of it is in a store"
    (failed,) = [one for one in Catalog(rig.settings).backups() if one.status is Status.FAILED]
    assert failed.error and failed.copies == ()
    rig.require_tidy()
    true_programs(rig)
    rig.again("backup")
    assert rig.living == rig.old


@pytest.mark.parametrize("operation", ["backup", *SLOW])
def test_a_program_of_the_database_that_hangs(
    database_setup: Any, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program that lists a dump's contents has ten minutes; in this test a second."""
    rig, real = database_setup, process.run

    def hurried(*args: Any, timeout: float | None = None, **how: Any) -> Any:
        return real(*args, timeout=1.0 if timeout == 600 else timeout, **how)

    fake(rig, "pg_restore", 'case "$*" in *--list*) trap "" TERM; sleep 300 & wait; sleep 300;; esac; exec $real "$@"')
    monkeypatch.setattr(process, "run", hurried)
    with pytest.raises(ToolStalled, match="pg_restore did not end within"):
        rig.again(operation)
    monkeypatch.undo()
    no_child_is_left()
    assert rig.living == rig.old and rig.databases() == {""}
    true_programs(rig)
    rig.again(operation)
    rig.require_tidy(after_grace=True)


STANDING = {
    "backup": ("pg_dump", "stage"),
    "backup as a stream": ("pg_dump", "stream"),
    "restore": ("pg_restore", "stage"),
    "drill": ("pg_restore", "stage"),
}


HOW = {"stop": "kill -STOP $$", "hang": 'trap "" TERM; sleep 300 & wait; sleep 300'}
ON_THE_WAY = ("backup-hang", "backup as a stream-stop", "restore-stop")  # in the suite; the others take just as long


@pytest.mark.parametrize(
    ("case", "how"),
    [
        pytest.param(case, words, id=f"{case}-{how}", marks=() if f"{case}-{how}" in ON_THE_WAY else pytest.mark.slow)
        for case in STANDING
        for how, words in HOW.items()
    ],
)
def test_a_program_of_the_database_that_makes_no_progress(database_setup: Any, case: str, how: str) -> None:
    """Stopped, or hanging: the default of a quarter of an hour is a second in this test."""
    rig, (program, dump) = database_setup, STANDING[case]
    rig.place.configure(dump=dump)
    text = rig.place.config.read_text()
    rig.place.config.write_text(text.replace("jobs = 2", "jobs = 2, stall_timeout = 1"))
    fake(rig, program, f'case "$*" in *--dbname*) {how};; esac; exec $real "$@"')
    began = time.monotonic()
    with pytest.raises(ToolStalled, match=f"{program} made no progress for .* and was ended"):
        rig.again(case.split(" ")[0])
    assert time.monotonic() - began < 45
    no_child_is_left()
    rig.require_no_child()
    assert rig.copies() == rig.before and rig.living == rig.old and rig.databases() == {""}
    true_programs(rig)
    rig.again(case.split(" ")[0])
    rig.require_tidy(after_grace=True)


@pytest.mark.parametrize("name", ["pg_dump", "pg_restore"])
@pytest.mark.parametrize("ask", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.slow
def test_a_program_of_the_database_that_ignores_being_asked(
    database_setup: Any, name: str, ask: signal.Signals
) -> None:
    rig = database_setup
    here = Path(rig.place.folder) / "here"
    fake(
        rig,
        name,
        f'case "$*" in *--dbname*) trap "" TERM; echo $$ > {here}; while :; do sleep 1; done;; esac; exec $real "$@"',
    )
    with rig.started("backup" if name == "pg_dump" else "restore", {}) as child:
        wait_for(here, child.poll)
        child.send_signal(ask)
        status = child.wait(30)
    assert status == (130 if ask is signal.SIGTERM else -9)
    rig.require_no_child()
    true_programs(rig)
    rig.again("backup")
    assert rig.living == rig.old and rig.databases() == {""}
    rig.require_tidy()


def test_a_restore_whose_program_dies(database_setup: Any) -> None:
    rig = database_setup
    script = 'case "$*" in *--dbname*) $real "$@" & sleep 0.05; kill -KILL $!; kill -KILL $$;; esac; exec $real "$@"'
    fake(rig, "pg_restore", script)
    with pytest.raises(ScriptoriumError, match="SIGKILL"):
        rig.again("restore")
    assert rig.living == rig.old and rig.databases() == {""}
    true_programs(rig)
    rig.again("restore")
    assert rig.living == rig.new
