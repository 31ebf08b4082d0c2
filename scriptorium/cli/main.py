"""The command ``scriptorium``: every command by name. The module of a command is imported when it is called."""

from __future__ import annotations

import gc
import io
import os
import sys
from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from scriptorium import __version__
from scriptorium.cli.output import Config, Json, LogFile, Quiet, Verbose, complain, manner, set_manner, with_errors
from scriptorium.umask import keep_private

# The module of each command, in the order of the help page. Some modules hold several commands.
COMMAND_MODULES = {
    "create": "operate",
    "verify": "operate",
    "drill": "operate",
    "cleanup": "operate",
    "restore": "restore",
    "list": "inspect",
    "show": "inspect",
    "stats": "inspect",
    "pin": "inspect",
    "unpin": "inspect",
    "delete": "inspect",
    "copy": "copy",
    "stores": "stores",
    "recovery-kit": "recovery_kit",
    "catalog": "catalog",
    "export": "export",
    "database": "database",
    "demo": "demo",
}


class _Commands(MutableMapping[str, Any]):
    """Commands by name. A command is made when it is asked for; a group of commands is a whole module."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            group = typer.main.get_group(import_module(f"scriptorium.cli.{COMMAND_MODULES[name]}").app)
            group.name = name
            self._made[name] = group.commands.get(name, group)
        return self._made[name]

    def __setitem__(self, name: str, made: Any) -> None:
        self._made[name] = made

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMAND_MODULES)

    def __len__(self) -> int:
        return len(COMMAND_MODULES)

    def __contains__(self, name: object) -> bool:
        return name in COMMAND_MODULES


class _OnDemand(TyperGroup):
    """The group of all commands. A command is loaded when it is needed, and not before."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = _Commands()

    def list_commands(self, ctx: object) -> list[str]:
        return list(self.commands)


app = typer.Typer(
    name="scriptorium",
    cls=_OnDemand,
    help="Back up library applications and restore them: hot snapshots, verified copies, safe restores.",
    no_args_is_help=True,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"scriptorium {__version__}")
        raise typer.Exit


@app.callback(epilog="Example:  scriptorium create --type full")
def everywhere(
    config: Config = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
    json_output: Json = False,
    log_file: LogFile = None,
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Options that may stand before or after the command."""
    with_errors(lambda: set_manner(config, verbose, quiet, json_output, log_file))


# Objects that may be made before the next search for cycles. Loading Prefect makes hundreds of thousands, nearly all of
# which stay: with the interpreter's default of 700, a third of the time before a run begins is spent on searching.
_SEARCHED_AFTER = 10_000


def main() -> None:
    """The console script."""
    gc.set_threshold(_SEARCHED_AFTER)
    _have_streams()
    keep_private()
    try:
        ended = app(prog_name="scriptorium", standalone_mode=False)
    except typer.TyperException as error:
        ended = _not_understood(error)
    finally:
        # At its end the interpreter looks for cycles in everything that is left: a quarter of the time of a `list`.
        gc.freeze()
    sys.exit(ended)


def _have_streams() -> None:
    """Make sure that standard input, output and error are open. The caller may have closed them (``>&-`` in a cron
    line); then the first files that we open would get their numbers, and messages would be written into an archive."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a letter that the locale lacks must not end a command


def _not_understood(error: typer.TyperException) -> int:
    """Report words that are no valid command like every other error, and as JSON if that was asked for."""
    message = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    if message:  # empty when the help page was shown instead
        manner.json |= "--json" in sys.argv
        complain(message[0].lower() + message[1:], f"{context.command_path if context else 'scriptorium'} --help", None)
    return error.exit_code
