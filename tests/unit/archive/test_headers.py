"""Headers keep every name and value that a filesystem may have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from scriptorium.model import Tree

NAMES = [b"user.\xff\xfe", b"user.a=b%c", b"user.new\nline", "user.\u00fcmlaut".encode(), b"user." + b"n" * 249]


@pytest.mark.parametrize("value", [b"", b"v\0\n\xff"])
@pytest.mark.parametrize("name", NAMES)
def test_an_attribute_of_any_name_is_restored(archives: Any, tmp_path: Path, name: bytes, value: bytes) -> None:
    (tmp_path / "tree").mkdir()
    file = os.fsencode(tmp_path / "tree" / "file")
    Path(os.fsdecode(file)).write_text("x")
    try:
        os.setxattr(file, name, value)
    except OSError:
        pytest.skip("no extended attributes on this filesystem")
    packed = archives.pack(Tree(str(tmp_path / "tree"), "x"))
    archives.unpack(packed, tmp_path / "back")
    back = os.fsencode(tmp_path / "back" / "x" / "file")
    assert [os.fsencode(one) for one in os.listxattr(back)] == [name] and os.getxattr(back, name) == value
    assert packed.manifest.warnings == ()
