"""What all commands share: options that work everywhere, output, errors, exit codes, confirmation."""

from __future__ import annotations

import functools
import inspect
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, ParamSpec, TypeVar

import typer

from scriptorium.errors import ScriptoriumError, UsageError
from scriptorium.wording import legible, legible_lines

if TYPE_CHECKING:
    from scriptorium.catalog import Catalog
    from scriptorium.report.report import Report, Row
    from scriptorium.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")
_PANEL = "Everywhere"
_LONG = 100

Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="The settings file.", rich_help_panel=_PANEL)
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show what is done, and tracebacks.", rich_help_panel=_PANEL)
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show only errors.", rich_help_panel=_PANEL)]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.", rich_help_panel=_PANEL)]
LogFile = Annotated[
    Path | None,
    typer.Option("--log-file", metavar="FILE", help="Write the log to it (it rotates).", rich_help_panel=_PANEL),
]
_EVERYWHERE: Mapping[str, object] = {
    "config": Config,
    "verbose": Verbose,
    "quiet": Quiet,
    "json_output": Json,
    "log_file": LogFile,
}


@dataclass
class Manner:
    """How this call writes its output; set once, from the options before or after the command."""

    verbose: bool = False
    quiet: bool = False
    json: bool = False
    wrote_json: bool = False


manner = Manner()


def set_manner(
    config: Path | None, verbose: bool, quiet: bool, json_output: bool, log_file: Path | None = None
) -> None:
    """Apply the options. Those given before the command stay in force."""
    if config is not None:
        from scriptorium.settings import choose_file

        choose_file(config)
    if verbose and not manner.verbose:
        from scriptorium.logs import to_terminal

        to_terminal()
    if log_file is not None:
        from scriptorium.logs import to_file

        to_file(log_file.absolute())
    manner.verbose |= verbose
    manner.quiet |= quiet
    manner.json |= json_output


def current() -> Settings:
    """The settings in force. They are loaded only when a command asks for them: a help page needs none."""
    from scriptorium.settings import current as in_force

    return in_force()


def catalog_of(settings: Settings) -> Catalog:
    """The catalog, imported only when a command asks for it."""
    from scriptorium.catalog import Catalog

    return Catalog(settings)


def meant(settings: Settings, library: str | None, *references: str) -> str | None:
    """The library whose backup is meant. ``latest`` alone is not enough if several libraries are configured:
    ``NotFound`` lists them."""
    return settings.library(library).name if library or "latest" in references else None


def every(settings: Settings, library: str | None) -> str | None:
    """The name of the chosen library; ``None`` for all of them, also if none is named."""
    return settings.library(library).name if library and library != "all" else None


def command(app: typer.Typer, name: str, *, example: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command: add the options that work everywhere, an example in its help, and our error handling."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def wrapped(*args: object, **given: object) -> None:
            common: dict[str, Any] = {option: given.pop(option) for option in _EVERYWHERE}
            with_errors(lambda: set_manner(**common))
            with_errors(lambda: function(*args, **given))

        signature = inspect.signature(function, eval_str=True)
        everywhere = [
            inspect.Parameter(
                option,
                inspect.Parameter.KEYWORD_ONLY,
                default=None if option in ("config", "log_file") else False,
                annotation=kind,
            )
            for option, kind in _EVERYWHERE.items()
        ]
        parameters = [*signature.parameters.values(), *everywhere]
        wrapped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        app.command(name, epilog=f"Example:  {example}")(wrapped)
        return wrapped

    return register


def with_errors(work: Callable[[], R]) -> R:
    """Run ``work``. An error becomes one line that says what failed, one that says what to do, and an exit code."""
    try:
        return work()
    except (KeyboardInterrupt, typer.Abort):
        complain("interrupted", "nothing incomplete is left; run the command again", None)
        raise typer.Exit(130) from None
    except BrokenPipeError:
        sys.stderr.close()  # the reader has closed the pipe (| head): this needs no message
        raise typer.Exit(0) from None
    except (typer.Exit, SystemExit):
        raise
    except Exception as error:  # noqa: BLE001  the last line of defence: a line, not a traceback
        what, hint, code = failure_of(error)
        complain(what, hint, error)
        raise typer.Exit(code) from None


def failure_of(error: Exception) -> tuple[str, str, int]:
    """What failed, what to do next, and the exit code."""
    if isinstance(error, ScriptoriumError):
        return error.exact, error.hint, error.exit_code
    if isinstance(error, OSError):
        from scriptorium.fs.system_errors import advice, reason_of

        where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
        what = f"{reason_of(error)}: {where}" if where else reason_of(error)
        return what, advice(error) or "--verbose shows where", 1
    return f"unexpected: {type(error).__name__}: {error}", "--verbose shows where; please report it", 1


def complain(what: str, hint: str, error: BaseException | None, *, document: bool = True) -> None:
    """Print what failed and what to do next; with ``--verbose``, also the traceback of ``error``. ``document``: with
    ``--json`` it is the document of the call."""
    if manner.verbose and error is not None:
        sys.stderr.write(legible_lines("".join(traceback.format_exception(error))))
    sys.stdout.flush()
    if any(handler.name == "file" for handler in logging.getLogger("scriptorium").handlers):
        from scriptorium.logs import note_failure

        note_failure(what)
    sys.stderr.write(f"error: {legible(what)}\n" + (f"  {legible(hint)}\n" if hint else ""))
    if document and manner.json and not manner.wrote_json:
        put_json({"error": what, "hint": hint})


def present(report: Report) -> None:
    """Write a result: with ``--json`` its document, else what it says to people."""
    if manner.json:
        put_json(report.document)
    show(report)


def show(report: Report) -> None:
    """Write what a result says to people. Its warnings are written in any case."""
    from scriptorium.report.report import Fields

    for block in report.blocks:
        if block.detail:
            continue
        if isinstance(block, Fields):
            put_pairs(block.pairs)
        else:
            table(block.rows, right=block.right, spare=block.spare)
    for warning in report.warnings:
        warn(warning)
    for note in report.notes:
        say(note)
    if report.verdict and report.good:
        say(report.verdict)


def put_json(document: object) -> None:
    """Write the one document of a call with ``--json``."""
    manner.wrote_json = True
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=True) + "\n")


def say(text: str) -> None:
    """Write a line for people; nothing with ``--quiet`` or ``--json``."""
    if not manner.quiet and not manner.json:
        sys.stdout.write(legible(text) + "\n")


def warn(text: str) -> None:
    """Write a warning to standard error, also with ``--quiet`` and ``--json``."""
    sys.stdout.flush()
    sys.stderr.write(f"warning: {legible(text)}\n")


def warn_of_half_restores(settings: Settings) -> None:
    """Warn of a restore that was killed in the middle: the living data may be a mixture, and must not be used."""
    from scriptorium.catalog import half_restored

    for library, backup in half_restored(settings):
        warn(
            f"a restore of {backup} over {library} is running now, or was cut short: then the living data may be a "
            "mixture of old and new. Do not start the application; scriptorium restore --undo puts the previous data "
            "back"
        )


def table(rows: Sequence[Row], *, right: Sequence[str] = (), spare: Sequence[str] = ()) -> None:
    """Write rows as a table; their keys are the columns. On a terminal that is too narrow, ``spare`` columns are left
    out, the first ones first; the first column is never wrapped. Piped output is not cut to a width."""
    if not rows or manner.quiet or manner.json:
        return
    if len(rows) > _LONG:
        _plain_table([{name: _cell(value, "; ") for name, value in row.items()} for row in rows], right)
    else:
        _rich_table([{name: _cell(value, "\n") for name, value in row.items()} for row in rows], right, spare)


def _cell(value: str | tuple[str, ...], between: str) -> str:
    return legible(value) if isinstance(value, str) else between.join(map(legible, value))


def _rich_table(rows: Sequence[Mapping[str, str]], right: Sequence[str], spare: Sequence[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console() if sys.stdout.isatty() else Console(width=240)
    names = _fitting(rows, spare, console.width)
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        justify: Literal["left", "right"] = "right" if name in right else "left"
        grid.add_column(name, justify=justify, overflow="fold", no_wrap=name == names[0])
    for row in rows:
        grid.add_row(*(Text(row[name]) for name in names))
    console.print(grid)


def _fitting(rows: Sequence[Mapping[str, str]], spare: Sequence[str], width: int) -> list[str]:
    """The columns that fit into the width."""
    from rich.cells import cell_len

    needed = {
        name: max(map(cell_len, (name, *(line for row in rows for line in row[name].split("\n"))))) for name in rows[0]
    }
    for name in spare:
        if sum(needed.values()) + 3 * (len(needed) - 1) + 2 <= width:
            break
        del needed[name]
    return list(needed)


def _plain_table(rows: Sequence[Mapping[str, str]], right: Sequence[str]) -> None:
    """The same without wrapping: rich takes 0.6 s for 1,000 rows, which is too slow for a list."""
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    for row in ({name: name for name in widths}, {name: "─" * width for name, width in widths.items()}, *rows):
        cells = (row[name].rjust(width) if name in right else row[name].ljust(width) for name, width in widths.items())
        sys.stdout.write(" " + "   ".join(cells).rstrip() + "\n")


def put_pairs(pairs: Mapping[str, str]) -> None:
    """Write each name and its value as one line."""
    width = max((len(name) for name in pairs), default=0)
    for name, value in pairs.items():
        say(f"{name + ':':<{width + 1}} {value}")


def confirm(question: str, *, yes: bool) -> None:
    """Ask for the word ``yes`` unless ``--yes`` was given. Without a terminal: ``UsageError``."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{question} There is no terminal to ask on", hint="add --yes to do it without confirmation")
    sys.stderr.write(f"{legible(question)} Type 'yes' to continue: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() != "yes":
        raise UsageError("nothing was done", hint="only the answer 'yes' starts it")
