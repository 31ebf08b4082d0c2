"""What a repository is like: its format, who holds it, whether restic finds it sound, whether it forgets."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from scriptorium.errors import Protected
from scriptorium.stores.care import Finding
from scriptorium.stores.trees.restic.failures import NoRepository
from scriptorium.stores.trees.restic.program import require_program

if TYPE_CHECKING:
    from scriptorium.stores.trees.restic.store import ResticStore

PROBE = "scriptorium-probe"  # the tag of a snapshot that is made to be removed


def examine(store: ResticStore, *, try_delete: bool) -> Iterator[Finding]:
    """Look at the repository; nothing of it is changed without ``try_delete``."""
    yield Finding("program", f"restic {'.'.join(map(str, require_program()))}")
    try:
        config = json.loads(store.program.run("cat", "config").stdout)
    except NoRepository as error:
        yield Finding("repository", error.what, None, "scriptorium stores init makes it; the first backup does, too")
        return
    yield Finding("repository", f"format {config.get('version', '?')}, id {str(config.get('id', '?'))[:10]}")
    locks = store.program.run("list", "locks", "--no-lock", "--quiet").stdout.split()
    if locks:
        yield Finding("locks", f"{len(locks)}", None, "a run is at work, or died: restic list locks, restic unlock")
    checked = store.program.run("check", within=None, found_damage=True)
    if checked.status == 0:
        yield Finding("structure", "restic check finds no damage")
    else:
        words = [line for line in checked.stderr.strip().splitlines() if line.strip()]
        hint = "see the manual of restic, Troubleshooting; verify --all says which backups are damaged"
        yield Finding("structure", words[0] if words else "restic check finds damage", False, hint)
    if try_delete:
        yield _removal(store)


def _removal(store: ResticStore) -> Finding:
    """Make a snapshot of a few bytes, and try to remove it."""
    mark = f"{PROBE},{secrets.token_hex(4)}"
    words = (
        "backup",
        "--stdin",
        "--stdin-filename=probe",
        f"--host={socket.gethostname()}",
        f"--tag={mark}",
        "--force",
    )
    store.program.run(*words, input=b"probe")
    found = json.loads(store.program.run("snapshots", "--json", f"--tag={mark}").stdout)
    try:
        store.program.run("forget", *(str(one["id"]) for one in found), within=None)
    except Protected as error:
        return Finding("removal", f"{error.what}: what is stored there stays")
    left = json.loads(store.program.run("snapshots", "--json", f"--tag={mark}").stdout or b"[]")
    if left:
        return Finding("removal", "restic forgets a snapshot, and it is still there", False, "see the server's log")
    return Finding(
        "removal", "what was put can be removed", None, "an append-only server (rest-server --append-only) keeps it"
    )
