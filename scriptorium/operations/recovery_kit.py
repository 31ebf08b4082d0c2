"""The recovery kit: one page for a drawer, with what is needed when everything but the stores is gone."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from scriptorium import wording
from scriptorium.errors import KeyMissing, UsageError
from scriptorium.failpoints import reach
from scriptorium.fs import atomic
from scriptorium.report.recovery_kit import Kit, KitLibrary, KitStore, as_html, as_text
from scriptorium.results import StoreFinding
from scriptorium.settings import Settings
from scriptorium.stores.recovery import identity_files, recovery_of

_MEMORY = "recovery-kit.json"
_SHORTEST = 10


@dataclass(frozen=True, slots=True)
class MadeKit:
    """``file``: where it was written, if anywhere."""

    kit: Kit
    text: str
    file: Path | None


def make_kit(settings: Settings, *, output: Path | None, html: bool = False, passphrase: str | None = None) -> MadeKit:
    """Write the page (mode 0600, atomically), and remember that it was made. ``passphrase``: the private keys that are
    here are in it, encrypted. ``UsageError``, ``KeyMissing``."""
    if passphrase is not None and len(passphrase) < _SHORTEST:
        raise UsageError(f"the passphrase is shorter than {_SHORTEST} characters", hint="use several random words")
    kit = _kit(settings, _locked_key(settings, passphrase) if passphrase is not None else "")
    text = as_html(kit) if html else as_text(kit)
    if output is not None:
        with atomic.beside(output.absolute()) as partial:
            with atomic.new_file(partial) as stream:
                stream.write(text.encode())
            reach("recovery-kit.before-name")
    _remember(settings)
    return MadeKit(kit, text, output)


def _kit(settings: Settings, key: str) -> Kit:
    stores = [
        KitStore(name, store.kind, found.address, found.place, found.secrets, found.programs, found.commands)
        for name, store in settings.stores.items()
        for found in (recovery_of(store),)
    ]
    libraries = [
        KitLibrary(
            one.name, one.preset or "", tuple(f"{s.name} ({s.kind}) in {s.place or 'the top'}" for s in one.sources)
        )
        for one in settings.libraries.values()
    ]
    programs = {"scriptorium": version("scriptorium"), "python": platform.python_version()}
    return Kit(
        wording.utc(datetime.now(UTC)), platform.node(), settings.origin, tuple(libraries), tuple(stores), programs, key
    )


def _locked_key(settings: Settings, passphrase: str) -> str:
    """The private keys of all stores in one armored file of age, encrypted by the passphrase."""
    import pyrage

    files = dict.fromkeys(file for store in settings.stores.values() for file in identity_files(store))
    if not files:
        raise KeyMissing(
            "no private key is named in the settings of a store", hint="--with-key needs 'identity' in the table 'age'"
        )
    keys = b"".join(file.read_bytes().rstrip(b"\n") + b"\n" for file in files)
    sealed: bytes = pyrage.passphrase.encrypt(keys, passphrase, armored=True)
    return sealed.decode().strip()


def fingerprint(settings: Settings) -> str:
    """A hash of what a kit is about: stores, addresses, recipients, places of secrets. No secret is in it."""
    listed = []
    for name, store in sorted(settings.stores.items()):
        found = recovery_of(store)
        listed.append([name, found.address, found.place, [asdict(one) for one in found.secrets]])
    return hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()


def _remember(settings: Settings) -> None:
    settings.workspace_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = {"fingerprint": fingerprint(settings), "made_at": datetime.now(UTC).isoformat()}
    atomic.write(settings.workspace_folder / _MEMORY, json.dumps(made).encode())


def kit_finding(settings: Settings) -> StoreFinding:
    """Whether a kit was made since stores or keys changed."""
    hint = "scriptorium recovery-kit --output FILE; keep it away from this machine"
    try:
        known = json.loads((settings.workspace_folder / _MEMORY).read_bytes())
        made, of = str(known["made_at"])[:10], known["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return StoreFinding("all", "recovery kit", "none was made", None, hint)
    if of != fingerprint(settings):
        return StoreFinding("all", "recovery kit", f"stores or keys changed since {made}", None, hint)
    return StoreFinding("all", "recovery kit", f"made on {made}", True, "")


def with_kit(settings: Settings, findings: Sequence[StoreFinding]) -> tuple[StoreFinding, ...]:
    """The findings about the stores, and the one about the kit."""
    return (*findings, kit_finding(settings))
