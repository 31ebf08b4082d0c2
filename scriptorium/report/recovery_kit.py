"""How a recovery kit reads: as text, and as a page to print with a QR code."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from scriptorium.report.report import Report

_STYLE = "body{font:11pt sans-serif;margin:2cm}pre{font:9pt monospace;white-space:pre-wrap}svg{float:right;width:4cm}"


class KitSecret(Protocol):
    @property
    def what(self) -> str: ...
    @property
    def where(self) -> str: ...
    @property
    def id(self) -> str: ...


@dataclass(frozen=True, slots=True)
class KitStore:
    """A store: ``address`` for ``--store``, ``place`` for people, and how it is read by hand."""

    name: str
    kind: str
    address: str
    place: str
    secrets: tuple[KitSecret, ...]
    programs: tuple[str, ...]
    commands: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KitLibrary:
    name: str
    preset: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kit:
    """``key``: the private keys, encrypted by a passphrase, in age's armor; empty if they are not in the kit."""

    made: str
    host: str
    settings: str
    libraries: tuple[KitLibrary, ...]
    stores: tuple[KitStore, ...]
    programs: Mapping[str, str]
    key: str = ""


def as_text(kit: Kit) -> str:
    """The page as text."""
    return "\n".join(_lines(kit)) + "\n"


def as_html(kit: Kit) -> str:
    """The page for a printer, well-formed XML. The QR code has the address of each store and the restore command."""
    import segno

    short = "\n".join(f"scriptorium restore latest --store '{one.address}' --restore-path DIR" for one in kit.stores)
    code = segno.make(short[:2000], error="m", micro=False).svg_inline(scale=3)
    return (
        '<!DOCTYPE html>\n<html xmlns="http://www.w3.org/1999/xhtml" lang="en"><head><meta charset="utf-8"/>'
        f"<title>Recovery kit</title><style>{_STYLE}</style></head><body>{code}"
        f"<pre>{html.escape(as_text(kit))}</pre></body></html>\n"
    )


def _lines(kit: Kit) -> Iterator[str]:
    yield "RECOVERY KIT: keep this away from the machine"
    yield f"made {kit.made} UTC on {kit.host}, settings: {kit.settings}"
    yield "programs: " + ", ".join(f"{name} {number}" for name, number in kit.programs.items())
    for library in kit.libraries:
        yield f"\nLibrary {library.name}" + (f" (preset {library.preset})" if library.preset else "")
        yield from (f"  {source}" for source in library.sources)
    for store in kit.stores:
        yield from _store(store, kit.libraries[0].name if kit.libraries else "LIBRARY")
    if kit.key:
        yield "\nThe private keys, encrypted by your passphrase. Save the block as key.age, then:"
        yield "  age -d -o key.txt key.age    (it asks for the passphrase, and needs 1 GB of memory)"
        yield kit.key


def _store(store: KitStore, library: str) -> Iterator[str]:
    yield f"\nStore {store.name} ({store.kind}): {store.place}"
    for secret in store.secrets:
        yield f"  {secret.what}: {secret.where}" + (f" [{secret.id}]" if secret.id else "")
    if store.address:
        yield "  with scriptorium:"
        yield f"    scriptorium catalog rebuild --store '{store.address}'"
        yield f"    scriptorium restore latest --store '{store.address}' --restore-path DIR"
    if store.commands:
        yield f"  by hand, with {', '.join(store.programs)}:"
        yield f"    LIBRARY={library} TARGET=/srv/recovered"
        yield from (f"    {command}" for command in store.commands)


def kit_report(kit: Kit, file: Path | None, text: str) -> Report:
    """The report on a kit that was made; its ``text`` is in the document if it is in no file."""
    document = {
        "file": str(file) if file else None,
        "made": kit.made,
        "libraries": [asdict(one) for one in kit.libraries],
        "stores": [asdict(one) for one in kit.stores],
        "programs": dict(kit.programs),
        "with_key": bool(kit.key),
        "text": None if file else text,
    }
    verdict = f"the recovery kit is in {file}; print it, and keep it away from this machine" if file else ""
    return Report("recovery-kit", "all", "Recovery kit", document=document, verdict=verdict)
