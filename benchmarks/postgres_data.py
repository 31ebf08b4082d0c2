"""About 1 GB of book-like rows: ``python -m benchmarks.postgres_data MEGABYTES``, the address in BENCH_DATABASE."""

from __future__ import annotations

import itertools
import json
import os
import random
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta

import psycopg

_NOW = datetime(2025, 1, 1)
_ROW = 1_950  # bytes that an item takes with what belongs to it
_POOL = 64 << 20  # larger than any compressor's window, so that text compresses as prose does
_SCHEMA = """
CREATE TABLE items (id serial PRIMARY KEY, uuid uuid NOT NULL UNIQUE, title varchar(500) NOT NULL, isbn13 varchar(13),
    identifiers jsonb, description text, publisher text, publish_date timestamp, language varchar(8) NOT NULL,
    series_index numeric(5, 2), tags varchar[], page_count int, date_added timestamp NOT NULL);
CREATE INDEX ON items (title);
CREATE INDEX ON items USING gin (tags);
CREATE TABLE files (id serial PRIMARY KEY, item_id int NOT NULL REFERENCES items,
    file_path varchar(1000) NOT NULL UNIQUE, format text, size_bytes int,
    checksum_md5 varchar(32), checksum_sha256 varchar(64), date_added timestamp);
CREATE INDEX ON files (item_id);
CREATE TABLE item_creators (item_id int REFERENCES items, creator_id int, role text, position int NOT NULL,
    PRIMARY KEY (item_id, creator_id, role));
"""


def _prose(chance: random.Random) -> str:
    words = ["".join(chance.choices("etaoinshrdlcumwfgypbvk", range(22, 0, -1), k=chance.randint(2, 10)))
             for _ in range(30_000)]  # fmt: skip
    weights = list(itertools.accumulate(1 / (rank + 3) for rank in range(len(words))))
    pieces, size = [], 0
    while size < _POOL:
        pieces.append(" ".join(chance.choices(words, cum_weights=weights, k=200)) + ". ")
        size += len(pieces[-1])
    return "".join(pieces)


def _items(count: int, chance: random.Random, prose: str) -> Iterator[tuple[object, ...]]:
    def text(size: int) -> str:
        at = chance.randrange(len(prose) - 4000)
        return prose[at : at + size]

    for n in range(count):
        numbers = json.dumps({"oclc": chance.randrange(10**9), "other": chance.randrange(10**8)})
        yield (
            *(f"{chance.getrandbits(128):032x}", text(40), f"978{n:010d}", numbers),
            *(text(chance.randint(800, 2200)) if n % 20 else None, text(20)),
            *(
                _NOW - timedelta(days=chance.randrange(20_000)),
                "en",
                chance.randrange(1000) / 100 if n % 3 == 0 else None,
            ),
            *([text(6) for _ in range(3)], chance.randrange(900), _NOW + timedelta(seconds=chance.random() * 1e7)),
        )


def _files(count: int, chance: random.Random, prose: str) -> Iterator[tuple[object, ...]]:
    for n in range(1, count + 1):
        digest = f"{chance.getrandbits(256):064x}"
        at = chance.randrange(len(prose) - 4000)
        path = f"Fiction/{prose[at : at + 30]}/{n}.epub"
        yield (n, path, "epub", chance.randrange(10**7), digest[:32], digest, _NOW)


def build(address: str, megabytes: int) -> None:
    """Fill an empty database; the same size gives the same rows."""
    chance = random.Random(1)
    prose = _prose(chance)
    count = megabytes * (1 << 20) // _ROW
    columns = (
        "uuid,title,isbn13,identifiers,description,publisher,publish_date,language,series_index,tags,page_count,"
        "date_added"
    )
    with psycopg.connect(address) as session:
        session.execute(_SCHEMA)
        for target, rows in (
            (f"items ({columns})", _items(count, chance, prose)),
            ("files (item_id,file_path,format,size_bytes,checksum_md5,checksum_sha256,date_added)",
             _files(count, chance, prose)),
            ("item_creators", ((n + 1, chance.randrange(90_000), "author", 0) for n in range(count))),
        ):  # fmt: skip
            with session.cursor().copy(f"COPY {target} FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
    with psycopg.connect(address, autocommit=True) as session:
        session.execute("VACUUM ANALYZE")


if __name__ == "__main__":
    build(os.environ["BENCH_DATABASE"], int(sys.argv[1]))
