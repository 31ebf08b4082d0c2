"""The command line as a user has it: output, JSON, exit codes, questions."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Scriptorium = Callable[..., Any]


def test_the_whole_story(scriptorium: Scriptorium, place: Any) -> None:
    """create, list, show, verify, stats, pin, restore, cleanup, delete: the life of one library."""
    made = scriptorium("create", "--name", "first", "--json")
    assert made.code == 0, made.err
    first = made.document
    assert first["status"] == "verified" and first["copies"][0]["store"] == "local"
    archive = place.backups / first["copies"][0]["key"]
    assert archive.stat().st_mode & 0o777 == 0o600 and archive.parent.stat().st_mode & 0o777 == 0o700
    assert archive.with_name(archive.name + ".json").exists()
    with tarfile.open(archive) as tar:
        names = tar.getnames()
    assert names[0] == "backup_metadata.json" and names[-2:] == ["manifest.json", "SHA256SUMS"]
    assert {"data/kuzu/bibliotheca.db", "config.py", ".env", "docker-compose.yml", "requirements.txt"} <= set(names)

    second = scriptorium("create", "--type", "config", "--compression", "zstd", "--json").document
    assert second["name"].startswith("config_") and second["copies"][0]["key"].endswith(".tar.zst")

    listed = scriptorium("list", "--json").document["backups"]
    assert [one["id"] for one in listed] == [second["id"], first["id"]]
    assert [one["id"] for one in scriptorium("list", "--type", "config", "--json").document["backups"]] == [
        second["id"]
    ]
    text = scriptorium("list")
    assert first["id"] in text.out and "first" in text.out and text.code == 0

    shown = scriptorium("show", first["id"][:4], "--json").document
    assert shown["manifest"]["parts"][0]["tables"]["Book"]["rows"] == 50
    assert "Book" in scriptorium("show", "first").out

    verified = scriptorium("verify", "--all")
    assert verified.code == 0 and "2 copies are sound" in verified.out

    stats = scriptorium("stats", "--json").document
    assert stats["total_backups"] == 2 and stats["backup_types"] == {"config": 1, "full": 1}
    assert stats["by_library"]["bibliotheca"]["last_success"]

    assert scriptorium("pin", "first").code == 0
    refused = scriptorium("delete", "first", "--yes")
    assert refused.code == 1 and "pinned" in refused.err and archive.exists()

    restored = scriptorium("restore", "first", "--restore-path", "out", "--json")
    assert restored.code == 0 and restored.document["tables"]["Book"]["rows"] == 50
    again = scriptorium("restore", "first", "--restore-path", "out")
    assert again.code == 2 and "not empty" in again.err
    assert scriptorium("restore", "first", "--restore-path", "out", "--clean", "--yes").code == 0

    dry = scriptorium("cleanup", "--keep-last", "1", "--dry-run")
    assert dry.code == 0 and "pinned" in dry.out and "nothing was removed" in dry.out
    assert scriptorium("unpin", "first").code == 0
    assert scriptorium("delete", "latest", "--yes").code == 0, "the word means the newest one, as everywhere"
    assert [one["id"] for one in scriptorium("list", "--json").document["backups"]] == [first["id"]]


def test_restore_in_place(scriptorium: Scriptorium, place: Any) -> None:
    place.execute("ALTER TABLE Book ADD cover_url STRING", "MATCH (b:Book) SET b.cover_url = '/covers/' + b.id")
    made = scriptorium("create", "--name", "good").out.splitlines()
    lacking = "data/covers/1, data/covers/10, data/covers/11, …"
    assert f"warning: covers that a book names and the backup lacks: 50 ({lacking})" in made
    assert "check: covers that no book names: 2 (data/covers/a.jpg, data/covers/sub/b.jpg)" in made
    place.execute("MATCH (b:Book) DETACH DELETE b")
    asked = scriptorium("restore", "good")
    assert asked.code == 2 and "--yes" in asked.err, "without a terminal and --yes it refuses"
    assert "Looked at" in asked.out and "part kuzu" in asked.out, "who is asked has seen the plan"
    assert scriptorium("restore", "good", "--quiet").out == ""
    assert place.execute("MATCH (b:Book) RETURN count(*)") == [[0]]
    done = scriptorium("restore", "good", "--yes")
    assert done.code == 0, done.err
    assert place.execute("MATCH (b:Book) RETURN count(*)") == [[50]]
    tiers = [one["tier"] for one in scriptorium("list", "--json").document["backups"]]
    assert tiers == ["before-restore", "manual"]
    mixed = scriptorium("restore", "--undo", "--only", "data", "--from", "local", "--yes")
    assert mixed.code == 2 and "takes no --only, --from" in mixed.err, "it would undo everything"
    planned = scriptorium("restore", "--undo", "--dry-run", "--yes")
    assert planned.code == 0 and "holds no file open" in planned.out and "nothing was changed" in planned.out
    assert place.execute("MATCH (b:Book) RETURN count(*)") == [[50]], "a plan goes nowhere"
    (journal,) = (place.settings.workspace_folder / "restores").iterdir()
    journal.write_text(journal.read_text().replace('"kept"', '"switched"'))  # as if it had been killed just before
    for words in (("list",), ("cleanup", "--keep-last", "9", "--dry-run")):
        seen = scriptorium(*words)
        assert seen.code == 0 and "may be a mixture" in seen.err and "restore --undo" in seen.err
    planned = scriptorium("restore", "latest", "--dry-run")
    assert planned.code == 0 and "was cut short" in planned.out
    undone = scriptorium("restore", "--undo", "--yes")
    assert undone.code == 0 and "was cut short" in undone.out and "is back" in undone.out, undone.err
    assert place.execute("MATCH (b:Book) RETURN count(*)") == [[0]]
    seen = scriptorium("list", "--json")
    assert seen.err == "" and len(seen.document["backups"]) == 2, "of a mixture no safety backup is taken"


def test_restore_refuses_while_the_application_runs(scriptorium: Scriptorium, place: Any) -> None:
    scriptorium("create", "--name", "good")
    script = "import kuzu, sys; d = kuzu.Database(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(place.database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as application:
        assert application.stdout is not None and application.stdin is not None
        application.stdout.readline()
        refused = scriptorium("restore", "good", "--yes")
        application.stdin.close()
    assert refused.code == 4 and f"process {application.pid}" in refused.err
    assert [one["tier"] for one in scriptorium("list", "--json").document["backups"]] == ["manual"]


def test_damage_is_exit_3(scriptorium: Scriptorium, place: Any) -> None:
    made = scriptorium("create", "--json").document
    archive = place.backups / made["copies"][0]["key"]
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 0x10
    archive.write_bytes(data)
    verified = scriptorium("verify", "--all", "--json")
    assert verified.code == 3 and verified.document["damaged"] == 1 and "damaged" in verified.err
    assert scriptorium("restore", made["id"], "--restore-path", "out").code == 3
    assert not (place.folder / "out").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("show", "abcd1234"), 5, "no such backup"),
        (("list", "--library", "nope"), 5, "bibliotheca"),
        (("list", "--store", "nope"), 5, "local"),
        (("list", "--type", "nope"), 2, "full"),
        (("list", "--config", "/nonexistent.toml"), 2, "settings file"),
        (("verify",), 2, "--all"),
        (("verify", "--all", "--read-data", "3/2"), 2, "N/T"),
        (("restore", "latest"), 5, "no good backup"),
        (("nonsense",), 2, "nonsense"),
        (("cleanup", "--max-age", "0", "--dry-run"), 2, "max_age"),
        (("create", "--compression", "rar"), 2, "zstd"),
    ],
)
def test_each_error_is_reported(scriptorium: Scriptorium, words: tuple[str, ...], code: int, message: str) -> None:
    answer = scriptorium(*words)
    assert answer.code == code and message in answer.err + answer.out, answer.err
    assert "Traceback" not in answer.err


def test_json_errors_are_one_document(scriptorium: Scriptorium) -> None:
    answer = scriptorium("show", "nothing", "--json")
    assert answer.code == 5 and set(json.loads(answer.out)) == {"error", "hint"}


def test_options_work_before_and_behind(scriptorium: Scriptorium) -> None:
    assert scriptorium("--json", "list").document == scriptorium("list", "--json").document
    assert scriptorium("-q", "list").out == ""


def test_every_command_has_help_with_an_example(scriptorium: Scriptorium) -> None:
    commands = ["create", "list", "show", "verify", "restore", "delete", "pin", "unpin", "cleanup", "stats", "demo"]
    for words in [[one] for one in commands] + [["catalog", "rebuild"]]:
        answer = scriptorium(*words, "--help")
        assert answer.code == 0 and "Example" in answer.out and "--json" in answer.out, words


def test_busy_library_is_exit_4(scriptorium: Scriptorium, place: Any) -> None:
    from scriptorium.workspace import lock

    with lock(place.settings, "bibliotheca", "a test"):
        answer = scriptorium("create")
    assert answer.code == 4 and f"process {os.getpid()}" in answer.err


def test_no_space_is_exit_7(scriptorium: Scriptorium, place: Any) -> None:
    """The settings expect a backup of a thousand times its content, so that no test has to fill a disk."""
    place.config.write_text("space_factor = 1000\n" + place.config.read_text())
    with (place.home / "data" / "uploads" / "large").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(place.home).free // 1000 + (64 << 20))
    answer = scriptorium("create")
    assert answer.code == 7 and "needs" in answer.err and "there are" in answer.err


def test_rebuilt_index_is_the_same(scriptorium: Scriptorium, place: Any) -> None:
    scriptorium("create")
    before = scriptorium("list", "--json").document
    index = place.backups / "backup_index.json"
    index.write_text("torn {")
    assert scriptorium("list", "--json").document == before
    index.unlink()
    assert scriptorium("catalog", "rebuild").code == 0
    assert scriptorium("list", "--json").document == before and index.exists()


def answer_on_a_terminal(folder: Path, words: list[str], answer: str) -> int:
    """Run the command on a real terminal, type an answer; returns the exit code."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        program = Path(sys.executable).with_name("scriptorium")
        os.execv(program, [str(program), *words])
    try:
        shown = b""
        while b"Type 'yes'" not in shown:
            shown += os.read(terminal, 4096)
        os.write(terminal, answer.encode())
        while True:
            try:
                if not os.read(terminal, 4096):
                    break
            except OSError:  # the terminal's end, once the child is gone
                break
    finally:
        _, status = os.waitpid(child, 0)
        os.close(terminal)
    return os.waitstatus_to_exitcode(status)


def test_the_question_wants_the_word_yes(scriptorium: Scriptorium, place: Any) -> None:
    made = scriptorium("create", "--json").document
    assert answer_on_a_terminal(place.folder, ["delete", made["id"]], "y\n") == 2
    assert scriptorium("show", made["id"]).code == 0
    assert answer_on_a_terminal(place.folder, ["delete", made["id"]], "yes\n") == 0
    assert scriptorium("show", made["id"]).code == 5


def test_without_a_settings_file_the_application_is_recognised(place: Any, scriptorium: Scriptorium) -> None:
    place.config.unlink()
    assert scriptorium("list").code == 2
    place.home.rename(place.folder / "x")
    for entry in (place.folder / "x").iterdir():
        entry.rename(place.folder / entry.name)
    made = scriptorium("create", "--type", "database", "--json")
    assert made.code == 0, made.err
    assert made.document["library"] == "bibliotheca" and made.document["name"].startswith("kuzu_")
    assert (place.folder / "data" / "backups" / made.document["copies"][0]["key"]).exists()
