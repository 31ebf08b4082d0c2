"""A tree of files to measure on: ``python -m benchmarks.tree FOLDER [--files N] [--megabytes M] [--seed S]``.

About half of the bytes are prose (what gzip makes a third of), half are random (what pictures, books in zip form and
audio are to a compressor). Sizes are spread as in real libraries: many small files, a few large ones. The same numbers
and seed give the same bytes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from scriptorium.demo.prose import prose

MIB = 1 << 20
_PROSE = 16  # MiB at most: wider than the windows of the compressors, so that they cannot learn it by heart
_SPREAD = 1.3  # of the logarithm of the sizes
_FOLDERS = 200
_PIECE = 64 << 10


@dataclass(frozen=True, slots=True)
class TreeSummary:
    """What was built: numbers of files and folders, bytes in all, and how many of them are prose."""

    files: int
    folders: int
    bytes: int
    prose: int
    seed: int


def build_tree(root: Path, *, files: int = 10_000, megabytes: int = 1024, seed: int = 1) -> TreeSummary:
    """Build the tree in ``root``, which must not exist yet."""
    chance = Random(seed)
    weights = [chance.lognormvariate(0, _SPREAD) for _ in range(files)]
    scale = megabytes * MIB / sum(weights)
    sizes = [int(weight * scale) for weight in weights]
    text = prose(chance, min(_PROSE, 1 + megabytes // 8) * MIB)
    root.mkdir(parents=True)
    folders = [root / f"{number % 12:02d}" / f"shelf {number:03d} – «ø»" for number in range(_FOLDERS)]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    written = 0
    for number, size in enumerate(sizes):
        readable = chance.random() < 0.5
        path = folders[number % _FOLDERS] / f"{number:05d}.{'txt' if readable else 'epub'}"
        with path.open("wb") as file:
            if readable:
                written += size
                _write_prose(file.write, text, size, chance)
            else:
                file.write(chance.randbytes(size))
    made = sum(1 for path in root.rglob("*") if path.is_dir())
    return TreeSummary(files, made, sum(sizes), written, seed)


def _write_prose(write: Callable[[bytes], object], text: bytes, size: int, chance: Random) -> None:
    while size > 0:
        piece = min(size, _PIECE)
        start = chance.randrange(len(text) - piece)
        write(text[start : start + piece])
        size -= piece


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tree", description="A tree of files to measure on.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    summary = build_tree(options.folder, files=options.files, megabytes=options.megabytes, seed=options.seed)
    json.dump(asdict(summary), sys.stdout)
    print()


if __name__ == "__main__":
    main()
