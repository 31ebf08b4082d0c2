"""Memory does not grow with the number or the size of files: packing, verifying and unpacking in a child each."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MIB = 1 << 20

SCRIPT = """
import sys
from datetime import UTC, datetime
from pathlib import Path

from scriptorium import manifest
from scriptorium.archive import pack, unpack
from scriptorium.model import FileList, Manifest, Staged, Tree
from scriptorium.words import BackupType, Compression, Tier
from scriptorium.archive.verification import verify_copy

act, scratch, compression = sys.argv[1], Path(sys.argv[2]), Compression(sys.argv[3])
target, record = scratch / f"full{compression.ending}", scratch / "full.json"
now = datetime.now(UTC)
if act == "pack":
    draft = Manifest("0" * 12, "l", None, BackupType.FULL, Tier.MANUAL, "", "", now, now, "h", "0", {}, (),
                     FileList(0, "", ()), None)
    part = Staged("x", "files", "x", "", now, now, (Tree(str(scratch / "root"), "x"),))
    record.write_bytes(manifest.dumps(pack(target, draft, [part], compression, spool=scratch)))
elif act == "verify":
    assert verify_copy(lambda: target.open("rb"), record.read_bytes(), name=target.name) == ()
else:
    expected = manifest.loads(record.read_bytes()).files
    with target.open("rb") as stream:
        done = unpack(stream, lambda path: scratch / "back" / path, roots=[scratch / "back"], expected=expected)
    assert done.files == int(sys.argv[4]), done
# not ru_maxrss: that begins with what the parent had when it started us
status = Path("/proc/self/status").read_text()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
"""


def peaks(scratch: Path, files: int, big: int, compression: str) -> dict[str, float]:
    """Peak resident memory in MiB of each act on a tree of small files and a big sparse one."""
    root = scratch / "root"
    for number in range(files):
        if number % 1000 == 0:
            folder = root / f"{number // 1000:03d}"
            folder.mkdir(parents=True)
        (folder / f"file with a name of some length {number}.txt").write_text(str(number))
    (root / "big").touch()
    os.truncate(root / "big", big)
    found = {}
    for act in ("pack", "verify", "unpack"):
        command = [sys.executable, "-c", SCRIPT, act, str(scratch), compression, str(files + 1)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found[act] = int(done.stdout) / 1024
    subprocess.run(["rm", "-rf", str(scratch / "back"), str(root)], check=True)
    return found


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory if possible: thousands of files on a busy disk take minutes."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def test_memory_stays_small(scratch: Path) -> None:
    found = peaks(scratch, 12_000, 512 * MIB, "gzip")
    assert max(found.values()) < 150, found


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_memory_of_the_issue(scratch: Path, compression: str) -> None:
    found = peaks(scratch, 100_000, 5 << 30, compression)
    print(found)
    assert max(found.values()) < 400, found
