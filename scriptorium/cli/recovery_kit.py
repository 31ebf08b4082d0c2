"""``recovery-kit``: one page with what is needed when everything but the stores is gone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scriptorium.cli.output import command, current, present, say
from scriptorium.errors import UsageError
from scriptorium.report.recovery_kit import kit_report

app = typer.Typer()

Output = Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it to this file (0600).")]
Html = Annotated[bool, typer.Option("--html", help="A page to print, with a QR code.")]
WithKey = Annotated[bool, typer.Option("--with-key", help="Add the private keys (age), encrypted by a passphrase.")]
PassphraseFile = Annotated[
    Path | None, typer.Option("--passphrase-file", metavar="FILE", help="The passphrase; without: it is asked for.")
]


@command(app, "recovery-kit", example="scriptorium recovery-kit --html --output kit.html")
def recovery_kit(
    output: Output = None, html: Html = False, with_key: WithKey = False, passphrase_file: PassphraseFile = None
) -> None:
    """Write what is needed to restore without this machine: stores, places of keys, commands by hand."""
    from scriptorium.operations.recovery_kit import make_kit

    if passphrase_file is not None and not with_key:
        raise UsageError("--passphrase-file goes with --with-key")
    passphrase = _passphrase(passphrase_file) if with_key else None
    made = make_kit(current(), output=output, html=html, passphrase=passphrase)
    if output is None:
        for line in made.text.splitlines():
            say(line)
    present(kit_report(made.kit, output, made.text))


def _passphrase(file: Path | None) -> str:
    if file is not None:
        return file.read_text("utf-8").rstrip("\r\n")
    return str(typer.prompt("Passphrase for the private keys", hide_input=True, confirmation_prompt=True, err=True))
