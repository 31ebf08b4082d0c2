"""How rsync and ssh are called, and what their failures mean."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from scriptorium.errors import NoSpace, NotFound, StoreRefused, StoreUnavailable, ToolMissing
from scriptorium.stores import RsyncStore
from scriptorium.stores.trees.rsync.program import Incomplete, Rsync

PROGRAM = Rsync("me@nas:/srv", "me@nas", ("ssh", "-i", "/it's mine/key"))
_LOST = "rsync: connection unexpectedly closed (0 bytes received so far) [Receiver]\nrsync error: unexplained error"


@pytest.mark.parametrize(
    "status, text, kind, words",
    [
        (255, f"Host key verification failed.\n{_LOST}", StoreRefused, "key of the host is not known"),
        (255, "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @", StoreRefused, "another one than before"),
        (255, f"me@nas: Permission denied (publickey).\n{_LOST}", StoreRefused, "does not let us in"),
        (255, f"ssh: connect to host nas port 22: Connection refused\n{_LOST}", StoreUnavailable, "Connection refused"),
        (255, "ssh: Could not resolve hostname nas: Name or service not known", StoreUnavailable, "does not answer"),
        (127, f"bash: rsync: command not found\n{_LOST}", ToolMissing, "rsync is not installed on the host"),
        (12, "rsync: connection unexpectedly closed (83 bytes received so far)", StoreUnavailable, "closed"),
        (30, "rsync error: timeout in data send/receive (code 30)", StoreUnavailable, "does not answer"),
        (11, 'rsync: [receiver] write failed on "/srv/x": No space left on device (28)', NoSpace, "full"),
        (11, 'rsync: [Receiver] mkdir "/srv/x" failed: Read-only file system (30)', StoreUnavailable, "read-only"),
        (11, 'rsync: [Receiver] mkdir "/srv/x" failed: Permission denied (13)', StoreUnavailable, "permission denied"),
        (23, 'rsync: [sender] change_dir "/srv" failed: No such file or directory (2)', NotFound, "not there"),
        (23, 'rsync: [sender] change_dir "/srv" failed: Not a directory (20)', StoreUnavailable, "Not a directory"),
        (-9, "", StoreUnavailable, "signal"),
        (1, "", StoreUnavailable, "status 1"),
    ],
)
def test_failures(status: int, text: str, kind: type[Exception], words: str) -> None:
    error = PROGRAM.failure(status, text)
    assert type(error) is kind and words in error.what


def test_a_single_file_that_fails_while_sending_is_no_failure_of_the_store() -> None:
    vanished = 'rsync: [sender] link_stat "/data/a" failed: No such file or directory (2)'
    assert type(PROGRAM.failure(23, vanished, sending=True)) is Incomplete
    assert type(PROGRAM.failure(24, "file has vanished: /data/a", sending=True)) is Incomplete
    full = 'rsync: [generator] recv_generator: mkdir "/srv/a" failed: No space left on device (28)'
    assert type(PROGRAM.failure(23, full, sending=True)) is NoSpace


def test_words() -> None:
    argv = PROGRAM._argv(["-t", "--", "/a", PROGRAM.there("/b c")])
    assert argv[:2] == ["rsync", "-s"] and argv[-1] == "me@nas:/b c"
    assert argv[2].startswith("--rsh='ssh' '-i' '/it''s mine/key' '-o' 'BatchMode=yes'")
    remote = Rsync("x", "me@[::1]", ("ssh",))._remote('cat -- "$1"', ["it's $HOME"])
    assert remote[-2] == "me@::1" and remote[-3] == "--"
    assert remote[-1] == "sh -c 'cat -- \"$1\"' sh 'it'\"'\"'s $HOME'"
    assert Rsync("/srv")._argv(["-t"]) == ["rsync", "-s", "-t"]


@pytest.mark.parametrize(
    "target, host, path",
    [
        ("me@nas:/srv/backups", "me@nas", "/srv/backups"),
        ("nas:backups/library/", "nas", "backups/library"),
        ("me@[fe80::1%eth0]:/srv", "me@[fe80::1%eth0]", "/srv"),
        ("nas:/", "nas", "/"),
    ],
)
def test_targets(target: str, host: str, path: str) -> None:
    store = RsyncStore(target=target, bwlimit="5m", rsync_path="/opt/rsync", timeout=90)
    assert store.program.host == host and store.folder is None and store.features.remote
    assert store.program.options == ("--bwlimit=5m", "--rsync-path=/opt/rsync", "--timeout=90")
    assert store.site.path == path  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"path": Path("/srv"), "target": "nas:/srv"},
        {"target": "nas::module"},
        {"target": "/srv"},
        {"target": "-oProxyCommand=x:/srv"},
        {"target": "nas:/srv", "ssh": ()},
        {"target": "nas:/srv", "bwlimit": "fast"},
        {"path": Path("/srv"), "timeout": 0},
    ],
)
def test_what_cannot_be_meant_is_refused(table: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RsyncStore.model_validate(table)
