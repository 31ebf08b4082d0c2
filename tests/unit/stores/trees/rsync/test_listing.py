"""What rsync prints: names with escapes, progress that is written over itself, listings."""

from __future__ import annotations

import io

from scriptorium.stores.trees.rsync.listing import listed_files, written_files

PRINTED = (
    b"created directory /srv/x\ncd+++++++++ sub/\n>f+++++++++ sub/big\n\r          32768   0%    0.00kB/s    0:00:00  "
    b"\r       65536  50%   20.01MB/s    0:00:02  \r       65536 100% (xfr#1, to-chk=3/4)\n"
    b"hf+++++++++ \\#377 odd\\#012\n<f.s....... back\\#134#134y\ncf...p..... a b\ncL+++++++++ link\n.d..t...... sub/\n"
    b'skipping non-regular file "pipe"\n'
)


def test_written_files_and_progress() -> None:
    moved = list[int]()
    output = io.BufferedReader(io.BytesIO(PRINTED))  # type: ignore[arg-type]
    found = list(written_files(output, moved.append))
    assert found == [b"sub/big", b"\xff odd\n", b"back\\#134y", b"a b"]
    assert sum(moved) == 65536


def test_a_listing() -> None:
    printed = (
        b"drwxr-xr-x           4096 2026/11/28 09:57:30 .\n"
        b"-rw-r--r--             12 2026/11/28 09:57:30 a b\\#012\n"
        b"-rw-r-----+   62914560 1970/01/01 00:00:01 sub/big\n"
        b"lrwxrwxrwx              1 2026/11/28 09:57:30 link -> a\n"
    )
    assert list(listed_files(printed)) == [(b"a b\n", 12, 1795859850), (b"sub/big", 62914560, 1)]
