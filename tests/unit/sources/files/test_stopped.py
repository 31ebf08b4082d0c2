"""A restore of any trees, stopped at any point: everything is restored, or everything is as before."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from unittest import mock

from file_trees import (
    ARCHIVE,
    LIVING,
    ODD,
    Node,
    Tree,
    bring,
    build,
    incoming_of,
    seen,
    source_of,
    state_of,
)
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from scriptorium.errors import RestoreFailed
from scriptorium.fs.places import Places

NAMES = ["a", "b", "c", "d.keep", ODD]
LEAVES = st.sampled_from([b"1", b"2", b""]) | st.sampled_from(["a", "../x"])


def trees(names: list[str]) -> st.SearchStrategy[Tree]:
    node: st.SearchStrategy[Node] = st.recursive(
        LEAVES, lambda below: st.dictionaries(st.sampled_from(names), below, max_size=3), max_leaves=8
    )
    return st.dictionaries(st.sampled_from(names), node, max_size=4)


def expected(living: Tree, archive: Tree) -> Tree | None:
    """What a restore makes of a living tree: the archive's, and every ``*.keep`` where it was. ``None``: impossible."""
    kept = keeping(living)
    return None if kept is None else overlaid(kept, archive)


def keeping(tree: Tree) -> Tree:
    found: Tree = {}
    for name, node in tree.items():
        if name.endswith(".keep"):
            found[name] = node
        elif isinstance(node, dict) and (below := keeping(node)):
            found[name] = below
    return found


def overlaid(kept: Tree, archive: Tree) -> Tree | None:
    found: Tree = {**kept}
    for name, node in archive.items():
        under = kept.get(name)
        if isinstance(under, dict):
            if not isinstance(node, dict):
                return None
            below = overlaid(under, node)
            if below is None:
                return None
            found[name] = below
        else:
            found[name] = node
    return found


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example({"a": {"d.keep": b"1"}}, {"a": b"2"}, 0)
@example(LIVING, ARCHIVE, 5)
@given(trees(NAMES), trees([name for name in NAMES if not name.endswith(".keep")]), st.integers(0, 12))
def test_a_restore_that_stops_is_undone_and_one_that_ends_is_right(living: Tree, archive: Tree, steps: int) -> None:
    class Crash(BaseException):
        pass

    count = 0
    real = Places.rename

    def rename(self: Places, source: Path, target: Path) -> None:
        nonlocal count
        if count == steps:
            raise Crash
        count += 1
        real(self, source, target)

    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    try:
        home = folder / "living"
        build(home, living)
        before = state_of(home)
        source = source_of(home, exclude=["*.keep"])
        incoming = incoming_of(source)
        bring(incoming, archive)
        stopped: BaseException | None = None
        with mock.patch.object(Places, "rename", rename):
            try:
                incoming.switch()
            except (Crash, RestoreFailed) as error:
                stopped = error
        wanted = expected(living, archive)
        if stopped is not None:
            assert isinstance(stopped, Crash) or wanted is None
            incoming_of(source).undo()
            assert state_of(home) == before
        else:
            assert seen(home) == wanted
            incoming_of(source).finish()
            assert seen(home) == wanted
        assert not list(folder.rglob(".scriptorium-*"))
    finally:
        shutil.rmtree(folder)
