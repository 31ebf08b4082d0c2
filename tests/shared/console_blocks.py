"""The commands of a document: found by its fences, all of them, and run by bash in the order in which they stand.

``console`` blocks hold commands after ``$ `` (continued after ``> ``), and under each the output that it promises;
``bash`` blocks are one script. Every other fence must name a language that holds no commands. Before a block may stand:

    <!-- not run: REASON -->     why the test cannot run it
    <!-- variables -->           assignments whose values the test replaces by its own
    <!-- do: N -->               anywhere in the text: chapter N (``## N. …``) is done here
    <!-- with: A, B -->          variables that the test sets before
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

_FENCE = re.compile(r"^(`{3,}|~{3,})(.*)$")
_CHAPTER = re.compile(r"^## (?:(\d+)\. )?(.*)$")
_MARK = re.compile(r"<!-- (not run|do|with|variables)(?:: (.*?))? -->")
_ASSIGNMENT = re.compile(r"(?:export )?([A-Z_]+)=(\S*)(\s+#.*)?\Z")
_SILENT = frozenset({"text", "json", "toml", "sql", "ini"})
_SHORTEST_REASON = 15


class WrongDocument(Exception):
    """The document contains something that could be a command and that no test would run."""


@dataclass(frozen=True)
class Command:
    """One command (or script), its line in the document, and the lines of output that the document shows below it."""

    text: str
    line: int
    promised: tuple[str, ...] = ()


@dataclass(frozen=True)
class Block:
    """``reason``: why it is not run. ``variables``: its values are the test's."""

    line: int
    commands: tuple[Command, ...]
    reason: str = ""
    variables: bool = False
    given: tuple[str, ...] = ()


@dataclass(frozen=True)
class Do:
    """``<!-- do: N -->``"""

    chapter: str
    line: int


@dataclass
class Chapter:
    number: str
    title: str
    steps: list[Block | Do] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """What a command printed (both streams) and its exit code, which is ``None`` if it was never reached."""

    command: Command
    status: int | None
    output: str


def chapters(path: Path) -> dict[str, Chapter]:
    """The chapters by number (by title if they have none). ``WrongDocument`` names the line."""
    found = [Chapter("", "")]
    lines = path.read_text("utf-8").splitlines()
    at, mark = 0, ("", "")
    while at < len(lines):
        line = lines[at]
        if fence := _FENCE.match(line):
            end = next((n for n in range(at + 1, len(lines)) if lines[n] == fence[1]), None)
            if end is None:
                raise WrongDocument(f"{path.name}:{at + 1}: this fence is never closed")
            block = _block(path, fence[2].strip(), lines[at + 1 : end], at + 1, mark)
            if block is not None:
                found[-1].steps.append(block)
            at, mark = end + 1, ("", "")
            continue
        if line.lstrip().startswith(("```", "~~~")):
            raise WrongDocument(f"{path.name}:{at + 1}: a fence must begin at the margin")
        if heading := _CHAPTER.match(line):
            found.append(Chapter(heading[1] or heading[2], heading[2]))
        for kind, words in _MARK.findall(line):
            if kind == "do":
                found[-1].steps += [Do(word.strip(), at + 1) for word in words.split(",")]
            else:
                mark = (kind, words)
        if line.strip() and not _MARK.search(line) and mark[0]:
            raise WrongDocument(f"{path.name}:{at + 1}: '{mark[0]}' must stand right before its block")
        at += 1
    return {chapter.number: chapter for chapter in found if chapter.steps}


def _block(path: Path, language: str, lines: Sequence[str], line: int, mark: tuple[str, str]) -> Block | None:
    where = f"{path.name}:{line}"
    if language in _SILENT:
        if any(text.startswith("$ ") for text in lines):
            raise WrongDocument(f"{where}: a command in a block of {language}")
        return None
    if language not in ("console", "bash"):
        raise WrongDocument(f"{where}: blocks are console, bash, {', '.join(sorted(_SILENT))}; not '{language}'")
    if mark[0] == "not run" and len(mark[1]) < _SHORTEST_REASON:
        raise WrongDocument(f"{where}: 'not run' wants a reason")
    commands = (Command("\n".join(lines), line + 1),) if language == "bash" else tuple(_commands(where, lines, line))
    return Block(
        line,
        commands,
        reason=mark[1] if mark[0] == "not run" else "",
        variables=mark[0] == "variables",
        given=tuple(word.strip() for word in mark[1].split(",")) if mark[0] == "with" else (),
    )


def _commands(where: str, lines: Sequence[str], line: int) -> Iterator[Command]:
    current: Command | None = None
    for number, text in enumerate(lines, line + 1):
        if text.startswith("$ "):
            if current is not None:
                yield current
            current = Command(text[2:], number)
        elif current is None:
            raise WrongDocument(f"{where}: output before any command")
        elif text.startswith("> ") and not current.promised:
            current = replace(current, text=f"{current.text}\n{text[2:]}")
        elif text:
            current = replace(current, promised=(*current.promised, text))
    if current is None:
        raise WrongDocument(f"{where}: a block without a command")
    yield current


def expand(all_chapters: Mapping[str, Chapter], number: str) -> list[tuple[str, Block]]:
    """The blocks of a chapter in the order in which they are run, each with its own chapter."""
    found: list[tuple[str, Block]] = []
    for step in all_chapters[number].steps:
        if isinstance(step, Do):
            found += expand(all_chapters, step.chapter)
        else:
            found.append((number, step))
    return found


def assigned(block: Block, values: Mapping[str, str]) -> Block:
    """A block of variables with the test's values; each of its variables must be among them."""
    commands = []
    for command in block.commands:
        parts = _ASSIGNMENT.match(command.text)
        if parts is None:
            raise WrongDocument(f"line {command.line}: not an assignment: {command.text}")
        if parts[1] not in values:
            raise WrongDocument(f"line {command.line}: the test has no value for {parts[1]}")
        text = command.text[: parts.start(2)] + shlex.quote(values[parts[1]])
        commands.append(replace(command, text=text))
    return replace(block, commands=tuple(commands))


def names_in(block: Block) -> set[str]:
    """The variables that a block of variables sets."""
    return {parts[1] for command in block.commands if (parts := _ASSIGNMENT.match(command.text))}


def run(blocks: Sequence[Block], folder: Path, env: Mapping[str, str], *, timeout: float = 120) -> list[Outcome]:
    """Run the commands in one bash, in ``folder``, one after the other, until one fails; nothing is left running."""
    desk = folder / ".commands"
    desk.mkdir(parents=True, exist_ok=True)
    commands = [command for block in blocks if not block.reason for command in block.commands]
    script = []
    for number, command in enumerate(commands):
        (desk / f"{number}.sh").write_text(command.text + "\n", "utf-8")
        script.append(f'. "{desk}/{number}.sh" </dev/null >"{desk}/{number}.out" 2>&1')
        script.append(f'echo "$?" >"{desk}/{number}.status"; [ "$(cat "{desk}/{number}.status")" = 0 ] || exit 1')
    (desk / "all.sh").write_text("\n".join(script) + "\n", "utf-8")
    child = subprocess.Popen(["bash", str(desk / "all.sh")], cwd=folder, env=dict(env), start_new_session=True)
    try:
        child.wait(timeout)
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    return [
        Outcome(command, _status(desk / f"{n}.status"), _printed(desk / f"{n}.out"))
        for n, command in enumerate(commands)
    ]


def _status(file: Path) -> int | None:
    return int(file.read_text()) if file.exists() else None


def _printed(file: Path) -> str:
    return file.read_text("utf-8", "replace") if file.exists() else ""


def missing(outcome: Outcome) -> str | None:
    """The first promised line that is not in the output, in order; ``…`` in it matches any text."""
    lines = iter(outcome.output.splitlines())
    for wanted in outcome.command.promised:
        pattern = re.compile(".*".join(re.escape(part) for part in wanted.rstrip().split("…")))
        if not any(pattern.fullmatch(line.rstrip()) for line in lines):
            return wanted
    return None
