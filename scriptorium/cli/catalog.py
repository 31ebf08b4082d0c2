"""``catalog``: rebuild its index; adopt backups of other programs, or archives of ours from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scriptorium.cli.inspect import Library
from scriptorium.cli.output import catalog_of, command, current, present, say
from scriptorium.cli.store_url import Identity, PasswordFile, StoreUrl
from scriptorium.errors import PermanentError, UsageError
from scriptorium.report.adopt import adopt_report, adopted_lines
from scriptorium.report.backups import found_report, rebuilt_report

if TYPE_CHECKING:
    from scriptorium.results import AdoptOutcome

app = typer.Typer(help="Rebuild the index of backups, and adopt backups.", no_args_is_help=True)

Paths = Annotated[list[Path], typer.Argument(metavar="PATH…", help="Archives, or folders of them.", show_default=False)]
To = Annotated[list[str] | None, typer.Option("--to", metavar="STORE", help="Stores (may be repeated).")]
Pin = Annotated[bool, typer.Option("--pin", help="Keep them for ever: retention does not remove them.")]
Trust = Annotated[
    bool, typer.Option("--trust", help="I know who made them: a dump may have code that reaches the server's machine.")
]
WriteSettings = Annotated[
    Path | None,
    typer.Option("--write-settings", metavar="FILE", help="With --store: write a settings file from what is found."),
]


@command(app, "rebuild", example="scriptorium catalog rebuild")
def rebuild(
    store: StoreUrl = None,
    password_file: PasswordFile = None,
    identity: Identity = None,
    write_settings: WriteSettings = None,
) -> None:
    """Rebuild the index of every store, or list one found by its URL, from the manifests alone."""
    if store is None:
        if password_file or identity or write_settings:
            raise UsageError("--password-file, --identity and --write-settings go with --store URL")
        present(rebuilt_report(catalog_of(current()).rebuild()))
        return
    from scriptorium.operations.bare_store import look, use_store_at

    settings = use_store_at(store, password_file=password_file, identity=identity)
    options = ["--password-file", str(password_file)] if password_file else []
    options += ["--identity", str(identity)] if identity else []
    present(found_report(look(settings, settings_file=write_settings), store, options))


@command(app, "adopt", example="scriptorium catalog adopt data/backups --to local")
def adopt(paths: Paths, library: Library = None, to: To = None, pin: Pin = False, trust: Trust = False) -> None:
    """Adopt backups that Bibliotheca or librarian made, or archives of ours from elsewhere."""
    from scriptorium.operations.adopt import adopt as adopt_each
    from scriptorium.operations.adopt import adopt_one, soon_removed
    from scriptorium.requests import AdoptRequest
    from scriptorium.results import AdoptOutcome

    settings = current()
    request = AdoptRequest(paths=paths, library=library, to=to, pinned=pin, trusted=trust)
    results = []
    if len(paths) == 1 and not paths[0].is_dir():
        results.append(AdoptOutcome(paths[0], adopt_one(settings, request)))
        _say(results[0], warnings=True)
    else:
        for result in adopt_each(settings, request):
            _say(result, warnings=False)
            results.append(result)
    present(adopt_report(results, soon_removed(settings, results)))
    failed = [result for result in results if result.error is not None]
    if failed:
        raise PermanentError(
            f"{len(failed)} of {len(results)} archives could not be adopted",
            on=", ".join(result.file.name for result in failed[:5]),
            hint="nothing of them was stored; adopt a single one with --verbose to see more",
        )


def _say(result: AdoptOutcome, *, warnings: bool) -> None:
    for line in adopted_lines(result, warnings=warnings):
        say(line)
