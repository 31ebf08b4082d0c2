"""Reading the members of a backup and extracting the wanted ones; each is checked against the manifest.

Members come as a stream, in their order; only the wanted ones are written to disk. If the manifest itself lists the
files, reading stops after the last wanted one. If a member lists them, that member is read too, since only it has their
hashes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator
from pathlib import Path

from scriptorium.errors import DamageFound
from scriptorium.manifest import parse_entry_line
from scriptorium.members import Member
from scriptorium.model import FileList
from scriptorium.progress import Advance
from scriptorium.restore import Supply

_HINT = "use another copy of this backup"


class Extraction:
    """Reads one backup, once or several times; call ``require_proven`` at the end."""

    def __init__(self, supply: Supply, advance: Advance | None = None) -> None:
        self._supply = supply
        self._advance = advance
        files: FileList = supply.manifest.files
        self._expected = None if files.entries is None else {one.path: one.sha256 for one in files.entries}
        self._unproven: dict[str, str] = {}

    def spooled(
        self, place_of: Callable[[str], Path | None], enough: Callable[[], bool]
    ) -> Generator[tuple[str, Path], None, None]:
        """Spool each file to the path that ``place_of`` returns for it; it is removed when the next one is requested.

        Ends when ``enough`` returns true, or with the backup. The caller must check whether it got all wanted files.
        """
        listing = self._supply.manifest.files.member

        def wanted(path: str) -> bool:
            return path == listing or place_of(path) is not None

        with self._supply.members(wanted, advance=self._advance) as members:
            for member in members:
                path = member.entry.path
                place = place_of(path) if member.entry.kind == "file" else None
                if place is not None:
                    self._spool(member, place)
                    yield path, place
                    place.unlink(missing_ok=True)
                elif path == listing and self._unproven:
                    self._prove(member)
                if enough() and not self._unproven:
                    return

    def guides(
        self, may_be: Callable[[str], bool], place_of: Callable[[str], Path | None], enough: Callable[[], bool]
    ) -> None:
        """Spool small members, and keep them. ``may_be``: whether ``place_of`` may want a member, now or later."""
        with self._supply.members(may_be) as members:
            for member in members:
                place = place_of(member.entry.path) if member.entry.kind == "file" else None
                if place is not None:
                    self._spool(member, place)
                if enough():
                    return

    def require_proven(self) -> None:
        """``DamageFound`` unless every extracted member is listed with its hash."""
        if self._unproven:
            raise DamageFound("the list of files lacks a member", on=next(iter(self._unproven)), hint=_HINT)

    def _spool(self, member: Member, place: Path) -> None:
        digest = hashlib.sha256()
        with place.open("wb") as file:
            for chunk in member.chunks():
                digest.update(chunk)
                file.write(chunk)
        path = member.entry.path
        if self._expected is None:
            self._unproven[path] = digest.hexdigest()
        elif self._expected.get(path) != digest.hexdigest():
            raise DamageFound("a file in the backup is not what was saved", on=path, hint=_HINT)

    def _prove(self, listing: Member) -> None:
        rest = b""
        digest = hashlib.sha256()
        for chunk in listing.chunks():
            digest.update(chunk)
            *lines, rest = (rest + bytes(chunk)).split(b"\n")
            for line in lines:
                entry = parse_entry_line(line + b"\n")
                found = self._unproven.pop(entry.path, None)
                if found is not None and found != entry.sha256:
                    raise DamageFound("a file in the backup is not what was saved", on=entry.path, hint=_HINT)
        if digest.hexdigest() != self._supply.manifest.files.sha256:
            raise DamageFound("the list of files is not what was saved", on=listing.entry.path, hint=_HINT)
