"""A Kuzu database whose WAL holds long texts: replaying it takes more memory than a small buffer pool has.

Run as a program it makes one and dies without closing it; ``lengths`` asks, in a child of its own, what a copy holds,
with the engine alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

BOOKS, LENGTH = 6_000, 3_000
SCARCE = 1e-9  # a share of the memory that leaves the reader the smallest pool


def make(database: Path, *, books: int = BOOKS, edited: int = 20) -> None:
    """``edited``: one of so many books gets another text after the last checkpoint."""
    wish = json.dumps({"database": str(database), "books": books, "edited": edited})
    subprocess.run([sys.executable, "-P", __file__, wish], check=True, timeout=300)


def lengths(database: Path) -> tuple[int, int, int]:
    """How many books there are, how long their texts are together, and how many were edited."""
    code = (
        "import kuzu, sys; c = kuzu.Connection(kuzu.Database(sys.argv[1], read_only=True, buffer_pool_size=4 << 30));"
        "print(*c.execute('MATCH (b:Book) RETURN count(*), sum(size(b.text)), "
        'sum(CASE WHEN b.text STARTS WITH "edited" THEN 1 ELSE 0 END)\').get_next())'
    )
    child = subprocess.run([sys.executable, "-c", code, str(database)], capture_output=True, check=True, timeout=120)
    books, together, edited = map(int, child.stdout.split())
    return books, together, edited


def expected(*, books: int = BOOKS, edited: int = 20) -> tuple[int, int, int]:
    return books, books * LENGTH, books // edited


def _make(wish: dict) -> None:
    import kuzu

    connection = kuzu.Connection(kuzu.Database(wish["database"], buffer_pool_size=2 << 30))
    connection.execute("CREATE NODE TABLE Book(id INT64, text STRING, PRIMARY KEY(id))")
    rows = [{"id": number, "text": f"{os.urandom(LENGTH // 2).hex()}"} for number in range(wish["books"])]
    connection.execute("UNWIND $rows AS r CREATE (:Book {id: r.id, text: r.text})", {"rows": rows})
    connection.execute("CHECKPOINT")
    rows = [
        {"id": number, "text": f"edited{os.urandom(LENGTH // 2).hex()[6:]}"}
        for number in range(0, wish["books"], wish["edited"])
    ]
    for start in range(100):  # what replaying takes grows with the transactions
        some = {"rows": rows[start::100]}
        connection.execute("UNWIND $rows AS r MATCH (b:Book) WHERE b.id = r.id SET b.text = r.text", some)
    os._exit(0)  # as a process that is killed: the WAL stays


if __name__ == "__main__":
    _make(json.loads(sys.argv[1]))
