"""The header of a database: Kuzu's, its successor's, or damage; and the hint of each error."""

from __future__ import annotations

from pathlib import Path

import pytest

from scriptorium.errors import ScriptoriumError, SourceDamaged, ToolMissing
from scriptorium.sources.kuzu import layout


def _asked(path: Path) -> int | None:
    return layout.storage_version(layout.find(path))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"KUZU\x27\0\0\0" + b"\0" * 8192, 39),
        (b"KUZU\x26\0\0\0" + b"\0" * 8192, 38),  # another engine's: whoever opens it says which
        (b"\0" * 4096, None),
    ],
)
def test_a_header_of_kuzu(tmp_path: Path, content: bytes, expected: int | None) -> None:
    (tmp_path / "app.db").write_bytes(content)
    assert _asked(tmp_path / "app.db") == expected


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (b"", SourceDamaged, "it is empty"),
        (b"\xff" * 8192, SourceDamaged, "begins with ff ff ff ff"),
        (b"\0" * 8192, SourceDamaged, "begins with zeros, and more follows"),
        (b"SQLite format 3\0" + b"\0" * 4096, SourceDamaged, "or this is another file"),
        (b"KUZU\xff\xff\xff\xff" + b"\0" * 4096, SourceDamaged, "which no engine has"),
        (b"KUZU\0\0\0\0" + b"\0" * 4096, SourceDamaged, "which no engine has"),
        (b"LBUG\x27\0\0\0" + b"\0" * 4096, ToolMissing, "Ladybug, the successor of Kuzu"),
        (b"LBUG\x31\0\0\0" + b"\0" * 4096, ToolMissing, "its header says LBUG"),
        (b"KUZU\x28\0\0\0" + b"\0" * 4096, ToolMissing, "storage version 40, Kuzu's last one is 39"),
    ],
)
def test_the_error_for_what_is_no_kuzu_database_names_what_it_is(
    tmp_path: Path, content: bytes, kind: type[ScriptoriumError], message: str
) -> None:
    (tmp_path / "app.db").write_bytes(content)
    with pytest.raises(kind) as caught:
        _asked(tmp_path / "app.db")
    assert message in caught.value.what
    assert "correct the source's path" not in caught.value.hint


@pytest.mark.parametrize("header", [b"KUZU\x27\0\0\0" + b"\0" * 4096, b"\0" * 4096, b"\0" * 8192, b"\0\0\0", b""])
def test_the_successor_is_recognised_by_the_files_beside_it(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "app.db").write_bytes(header)
    (tmp_path / "app.db.wal.checkpoint").touch()
    with pytest.raises(ToolMissing, match=r"app\.db\.wal\.checkpoint lies beside it"):
        _asked(tmp_path / "app.db")


def test_the_database_in_a_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "app.db").write_bytes(b"KUZU\x27\0\0\0")
    with pytest.raises(SourceDamaged) as caught:
        layout.find(tmp_path)
    assert "app.db" in caught.value.hint
    (tmp_path / "data.kz").touch()
    with pytest.raises(SourceDamaged) as caught:
        layout.find(tmp_path)
    assert "catalog.kz is missing" in caught.value.hint
