"""Keys of age for the tests."""

from __future__ import annotations

from pathlib import Path

import pyrage


def new_key(file: Path) -> str:
    """Write a new private key as ``age-keygen`` does; returns its recipient."""
    identity = pyrage.x25519.Identity.generate()
    recipient = str(identity.to_public())
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"# created: 2026-01-02T03:04:05Z\n# public key: {recipient}\n{identity}\n")
    file.chmod(0o600)
    return recipient
