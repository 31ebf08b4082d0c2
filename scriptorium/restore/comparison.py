"""Comparing a restored folder with a manifest, by reading every file again from the disk."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from scriptorium.fs.kinds import is_file, is_folder
from scriptorium.model import FileEntry, Finding, Manifest
from scriptorium.restore.supply import EXPORTS


def compare_files(manifest: Manifest, root: Path) -> tuple[Finding, ...]:
    """Every difference between the manifest's list of files and the folder; logical exports may be missing.

    Raises ``ValueError`` if the list of files is not in the manifest itself (more than 10,000 files).
    """
    if manifest.files.entries is None:
        raise ValueError("the list of files is not in the manifest itself")
    exports = tuple(f"{part.export}" for part in manifest.parts if part.export)
    findings = []
    for entry in manifest.files.entries:
        path = root / entry.path
        exported = any(entry.path == place or entry.path.startswith(f"{place}/") for place in exports)
        if exported or entry.path == EXPORTS:
            continue
        finding = _compare(entry, path)
        if finding is not None:
            findings.append(finding)
    return tuple(findings)


def _compare(entry: FileEntry, path: Path) -> Finding | None:
    if not os.path.lexists(path):
        return Finding("missing file", entry.path)
    if entry.kind == "folder":
        return None if is_folder(path) else Finding("not a folder", entry.path)
    if entry.kind == "symlink":
        same = path.is_symlink() and os.readlink(path) == entry.target  # noqa: PTH115  Path would shorten "./x"
        return None if same else Finding("different link", entry.path)
    if not is_file(path):
        return Finding("not a file", entry.path)
    if entry.sha256 is None:
        return None
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return None if digest == entry.sha256 else Finding("different content", entry.path)
