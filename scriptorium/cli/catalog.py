"""``catalog``: rebuild its index; adopt backups of other programs, or archives of ours from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scriptorium.cli.inspect import Library
from scriptorium.cli.output import catalog_of, command, current, manner, put_json, say
from scriptorium.errors import PermanentError
from scriptorium.report.documents import adopt_document, adopt_line

if TYPE_CHECKING:
    from scriptorium.results import AdoptOutcome
    from scriptorium.settings import Settings

app = typer.Typer(help="Rebuild the index of backups, and adopt backups.", no_args_is_help=True)

Paths = Annotated[list[Path], typer.Argument(metavar="PATH…", help="Archives, or folders of them.", show_default=False)]
To = Annotated[list[str] | None, typer.Option("--to", metavar="STORE", help="Stores (may be repeated).")]
Pin = Annotated[bool, typer.Option("--pin", help="Keep them for ever: retention does not remove them.")]
Trust = Annotated[
    bool, typer.Option("--trust", help="I know who made them: a dump may have code that reaches the server's machine.")
]


@command(app, "rebuild", example="scriptorium catalog rebuild")
def rebuild() -> None:
    """Rebuild the index of every store from the manifests alone."""
    copies = catalog_of(current()).rebuild()
    if manner.json:
        put_json({"copies": copies})
    say(f"the index was rebuilt: {copies} cop{'y' if copies == 1 else 'ies'}")


@command(app, "adopt", example="scriptorium catalog adopt data/backups --to local")
def adopt(paths: Paths, library: Library = None, to: To = None, pin: Pin = False, trust: Trust = False) -> None:
    """Adopt backups that Bibliotheca or librarian made, or archives of ours from elsewhere."""
    from scriptorium.operations.adopt import adopt as adopt_one
    from scriptorium.operations.adopt import adopt_all
    from scriptorium.results import AdoptOutcome

    settings = current()
    outcomes = []
    if len(paths) == 1 and not paths[0].is_dir():
        adopted = adopt_one(settings, paths[0], library=library, to=to or (), pinned=pin, trusted=trust)
        outcomes.append(AdoptOutcome(paths[0], adopted))
        _say(outcomes[0], warnings=True)
    else:
        for outcome in adopt_all(settings, paths, library=library, to=to or (), pinned=pin, trusted=trust):
            _say(outcome, warnings=False)
            outcomes.append(outcome)
    soon_removed = _soon_removed(settings, outcomes)
    if soon_removed:
        say(f"note: the next cleanup would remove {', '.join(soon_removed)}, by age; scriptorium pin ID keeps one")
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    if manner.json:
        put_json(adopt_document(outcomes, soon_removed))
    if not outcomes:
        say("no archive was found that could be adopted")
    if failed:
        raise PermanentError(
            f"{len(failed)} of {len(outcomes)} archives could not be adopted",
            on=", ".join(outcome.file.name for outcome in failed[:5]),
            hint="nothing of them was stored; adopt a single one with --verbose to see more",
        )


def _say(outcome: AdoptOutcome, *, warnings: bool) -> None:
    say(adopt_line(outcome, with_warning=not warnings))
    for warning in outcome.adopted.warnings if warnings and outcome.adopted and not outcome.adopted.already else ():
        say(f"  warning: {warning}")


def _soon_removed(settings: Settings, outcomes: Sequence[AdoptOutcome]) -> list[str]:
    """The ids that the next cleanup would remove: adopted backups are old, and retention removes old backups."""
    from scriptorium.operations.prune import plan_cleanup

    new = {
        outcome.adopted.backup.id: outcome.adopted.backup.library
        for outcome in outcomes
        if outcome.adopted and not outcome.adopted.already
    }
    decisions = [one for library in sorted(set(new.values())) for one in plan_cleanup(settings, library)]
    return [one.candidate.id for one in decisions if one.candidate.id in new and not one.keep]
