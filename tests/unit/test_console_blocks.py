"""The helper that runs the commands of the documents: it skips no command, and notices a wrong outcome or output."""

from __future__ import annotations

import os
import time
from pathlib import Path

import console_blocks as console
import pytest


def fenced(language: str, *lines: str, mark: str = "") -> str:
    return "\n".join([*([mark] if mark else []), f"```{language}", *lines, "```", ""])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (fenced("", "$ true"), "not ''"),
        (fenced("sh", "true"), "not 'sh'"),
        (fenced("shell", "$ true"), "not 'shell'"),
        (fenced("text", "$ true"), "a command in a block of text"),
        ("- a list\n  ```console\n  $ true\n  ```\n", "must begin at the margin"),
        ("```console\n$ true\n", "never closed"),
        (fenced("console", "true"), "output before any command"),
        (fenced("console"), "without a command"),
        (fenced("console", "$ true", mark="<!-- not run: no -->"), "wants a reason"),
        ("<!-- not run: there is no such machine -->\nprose\n" + fenced("console", "$ true"), "right before its block"),
    ],
)
def test_a_command_that_nobody_would_run_is_an_error(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "wrong.md").write_text(text)
    with pytest.raises(console.WrongDocument, match=complaint):
        console.chapters(tmp_path / "wrong.md")


def performed(folder: Path, text: str) -> list[console.Outcome]:
    (folder / "book.md").write_text(text)
    book = console.chapters(folder / "book.md")
    blocks = [block for number in book for _, block in console.expand(book, number)]
    return console.run(blocks, folder, {"PATH": os.environ["PATH"]}, timeout=20)


def test_commands_share_one_shell_and_stop_at_the_first_failure(tmp_path: Path) -> None:
    text = fenced(
        "console", "$ mkdir there && cd there", "$ PLACE=$(pwd)", "$ for x in 1 2; do", "> echo $x; done", "1"
    )
    text += fenced("bash", "cat > file <<'END'", "$ not a command", "END")
    text += fenced("console", "$ test -f $PLACE/file", "$ false", "$ echo never")
    outcomes = performed(tmp_path, text)
    assert [one.status for one in outcomes] == [0, 0, 0, 0, 0, 1, None]
    assert outcomes[2].output == "1\n2\n"
    assert (tmp_path / "there/file").read_text() == "$ not a command\n"


def test_a_promised_line_must_occur_and_in_order(tmp_path: Path) -> None:
    command = "$ printf 'one 1\\ntwo 2\\n'"
    text = "".join(
        fenced("console", command, *shown)
        for shown in (["one 1", "two 2"], ["two …"], ["…"], ["two 2", "one 1"], ["one"], ["three …"])
    )
    outcomes = performed(tmp_path, text)
    assert [console.missing(one) for one in outcomes] == [None, None, None, "one 1", "one", "three …"]


def test_both_streams_are_read_and_nothing_waits_for_input(tmp_path: Path) -> None:
    (one, other) = performed(tmp_path, fenced("console", "$ cat; echo heard >&2", "heard", "$ read -r x || true"))
    assert (one.status, one.output, other.status) == (0, "heard\n", 0)


def test_what_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    (tmp_path / "book.md").write_text(fenced("console", "$ sleep 60 & echo $! > child; wait"))
    steps = console.chapters(tmp_path / "book.md")[""].steps
    with pytest.raises(Exception, match="timed out"):
        console.run(steps, tmp_path, {"PATH": os.environ["PATH"]}, timeout=1)
    child = int((tmp_path / "child").read_text())
    for _ in range(50):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            return
        time.sleep(0.05)
    pytest.fail("the child lives on")


def test_chapters_are_done_where_another_asks_for_them(tmp_path: Path) -> None:
    text = "# Book\n## Variables\n<!-- variables -->\n" + fenced("console", "$ A=/their/place   # what it is")
    text += "## 1. First\n" + fenced("console", "$ echo first $A", "first …")
    text += "## 2. Second\nDo this. <!-- do: 1 -->\n" + fenced("console", "$ echo second")
    (tmp_path / "book.md").write_text(text)
    book = console.chapters(tmp_path / "book.md")
    (_, variables), *_ = console.expand(book, "Variables")
    assert console.names_in(variables) == {"A"}
    with pytest.raises(console.WrongDocument, match="no value for A"):
        console.assigned(variables, {})
    blocks = [console.assigned(variables, {"A": "my own"})] + [block for _, block in console.expand(book, "2")]
    outcomes = console.run(blocks, tmp_path, {"PATH": os.environ["PATH"]})
    assert [one.output for one in outcomes] == ["", "first my own\n", "second\n"]
