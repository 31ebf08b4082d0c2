"""The programs and the machine of a measurement: versions, cores, memory. No host names."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from scriptorium import __version__, process

_TOOLS = ("tar", "pigz", "zstd", "bash", "restic", "borg", "rsync", "rclone")
_PACKAGES = ("isal", "zstandard", "kuzu", "prefect")


def versions() -> Mapping[str, str]:
    """Every program and package that took part; missing ones are named as missing."""
    found = {"scriptorium": f"{__version__} ({_commit()})", "python": platform.python_version()}
    for tool in _TOOLS:
        found[tool] = _version(tool)
    for package in _PACKAGES:
        found[package] = importlib.metadata.version(package)
    return found


def _version(tool: str) -> str:
    if shutil.which(tool) is None:
        return "absent"
    outcome = process.run([tool, "--version"], check=False)
    number = re.search(r"\d+(\.\d+)+", outcome.stdout.decode("utf-8", "replace") + outcome.stderr)
    return number[0] if number else "unknown"


def _commit() -> str:
    root = Path(__file__).parent.parent
    if shutil.which("git") is None or not (root / ".git").exists():
        return "no checkout"
    outcome = process.run(["git", "-C", str(root), "rev-parse", "--short", "HEAD"], check=False)
    changed = process.run(["git", "-C", str(root), "status", "--porcelain", "-uno"], check=False).stdout
    return outcome.stdout.decode().strip() + (" and changes" if changed.strip() else "")


def description(folder: Path) -> Mapping[str, str]:
    """The properties of the machine that matter; ``folder`` is where the work is done."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "processor": model[1] if model else platform.machine(),
        "memory": f"{memory / (1 << 30):.0f} GiB",
        "system": " ".join((platform.system(), platform.release().partition("-")[0])),
        "filesystem": _filesystem(folder),
        "load at start": f"{os.getloadavg()[0]:.1f}",
        "page cache": "warm: everything was read once before (dropping it needs root and is not done)",
    }


def busy() -> str:
    """A warning if others use the machine: then CPU times are more reliable than wall times."""
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    return (
        f"the machine was busy (load {load:.1f} on {cores} cores): trust CPU more than wall" if load > cores / 2 else ""
    )


def _filesystem(folder: Path) -> str:
    best = ("", "unknown")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if folder.is_relative_to(place) and len(place) >= len(best[0]):
            best = (place, kind)
    return best[1]
