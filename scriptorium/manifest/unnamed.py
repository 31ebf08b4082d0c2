"""A manifest without the names of files: what lies beside an archive whose list is encrypted, too."""

from __future__ import annotations

import dataclasses

from scriptorium.model import Manifest

_INSIDE = "its text is in the encrypted archive"


def without_names(manifest: Manifest) -> Manifest:
    """The manifest without what names files: its list must be a member already. How many there are stays."""
    return dataclasses.replace(
        manifest,
        parts=tuple(dataclasses.replace(part, unsaved=()) for part in manifest.parts),
        warnings=tuple(_INSIDE for _ in manifest.warnings),
        checks=tuple(dataclasses.replace(check, first=()) for check in manifest.checks),
    )
