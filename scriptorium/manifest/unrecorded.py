"""What a manifest does not say of a backup that was taken over from another program."""

from __future__ import annotations

from scriptorium.model import Manifest, Part

# How the method of a part ends whose database could not be opened when it was taken over: it came as plain files.
NOT_OPENED = "; not opened"


def unrecorded(manifest: Manifest) -> tuple[str, ...]:
    """The databases of which nothing is recorded: they can be restored, but not compared with anything."""
    return tuple(part.source for part in manifest.parts if not _recorded(part))


def _recorded(part: Part) -> bool:
    return part.tables is not None or (part.kind == "files" and not part.method.endswith(NOT_OPENED))
