"""The command ``scriptorium``."""

from __future__ import annotations

import typer

from scriptorium import __version__
from scriptorium.cli import adopting, database, demo, exporting, inspecting, operating, restoring
from scriptorium.cli.frame import Config, Json, Quiet, Verbose, set_manner, with_errors

app = typer.Typer(
    name="scriptorium",
    help="Back up library applications, and bring them back: hot snapshots, verified copies, safe restores.",
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
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Options that may stand before or behind the command."""
    with_errors(lambda: set_manner(config, verbose, quiet, json_output))


app.add_typer(operating.app)
app.add_typer(restoring.app)
adopting.register(inspecting.catalog_app)
app.add_typer(inspecting.app)
app.add_typer(exporting.app)
app.add_typer(database.app, name="database")
app.add_typer(demo.app)


def main() -> None:
    """The console script."""
    app()
