"""The owners of restored files, what a filesystem does not keep, and the reports before and after."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from restore_setup import Home, supply_of, take

from scriptorium.errors import UsageError
from scriptorium.fs.owners import Ownership, ownership
from scriptorium.fs.probing import ATTRIBUTES, LISTS, OWNERS, probe
from scriptorium.model.unset import NAMES, UnsetTally
from scriptorium.operations.restore import plan_restore, restore
from scriptorium.report.restore import preflight_report, restore_report
from scriptorium.requests import RestoreRequest
from scriptorium.results import RestoreResult

Nobody = Callable[[], AbstractContextManager[None]]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where another user may enter, too."""
    made = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def plain(folder: Path) -> Iterator[Path]:
    """A filesystem without extended attributes and access lists."""
    at = folder / "plain"
    at.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "ramfs", "none", at], capture_output=True).returncode:
        pytest.skip("this needs to mount a ramfs")
    yield at
    subprocess.run(["umount", "-l", at], check=True)


@pytest.fixture
def home(folder: Path) -> Home:
    """A tree of two users' files, one of them with an attribute, and its backup."""
    data = folder / "data"
    for number, path in enumerate(("a.txt", "sub/b.txt", "sub/deep/c.txt", "d.txt", "e.txt")):
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        (data / path).write_text(path)
        (data / path).chmod(0o750 if path == "e.txt" else 0o640)
        os.setxattr(data / path, "user.origin", b"here")
        if os.geteuid() == 0:
            os.chown(data / path, 4000 + number, 4000)
    (data / "link").symlink_to("a.txt")
    (folder / "scriptorium.toml").write_text(
        '[libraries.lib]\nsources = [{ name = "data", kind = "files", path = "data" }]\n'
        '[stores.local]\nkind = "local"\npath = "store"\n'
    )
    made = Home(folder)
    take(made.settings)
    return made


def owners(folder: Path) -> dict[str, tuple[int, int]]:
    found = [folder, *folder.rglob("*")]
    return {str(path.relative_to(folder)): (path.lstat().st_uid, path.lstat().st_gid) for path in found}


def into(home: Home, target: Path, **how: str) -> RestoreResult:
    return restore(home.settings, RestoreRequest(reference="latest", path=target, **how))


def found(home: Home, **how: str | Path) -> dict[str, str]:
    plan = plan_restore(home.settings, RestoreRequest.model_validate({"reference": "latest", **how}))
    return {row.what: f"{row.found}{' STOP ' if row.trouble else ''}{row.trouble or ''}" for row in plan.preflight.rows}


@pytest.mark.parametrize(
    "word", ["mine", "1000", "1000:", ":7", "a:b:c", "-1:4", "99999999999:1", "root;:x", "4294967295:0"]
)
def test_what_is_no_owner_is_refused_at_once(word: str) -> None:
    with pytest.raises(UsageError, match="is not an owner"):
        RestoreRequest(reference="latest", owner=word)
    with pytest.raises(UsageError, match="for files"):
        RestoreRequest(reference="latest", database="x", owner="me")


def test_a_name_that_nobody_has_here_is_refused() -> None:
    assert ownership("root:root") == Ownership(0, 0, asked=True, replaces=True)
    with pytest.raises(UsageError, match="no group 'nosuchgroup'") as caught:
        ownership("root:nosuchgroup")
    assert "use numbers" in caught.value.hint


@needs_root
def test_everything_belongs_to_the_chosen_user(home: Home, folder: Path) -> None:
    into(home, folder / "new" / "kept")
    kept = owners(folder / "new" / "kept" / "data")
    assert kept["a.txt"] == (4000, 4000) and kept["sub/b.txt"] == (4001, 4000)
    into(home, folder / "given", owner="1234:5678", only=("data/sub/deep/c.txt",))
    assert set(owners(folder / "given").values()) == {(1234, 5678)}, "also of folders that no member describes"
    assert (folder / "given/data/sub/deep/c.txt").stat().st_mode & 0o777 == 0o640, "the group has the group's rights"
    into(home, folder / "mine", owner="me")
    assert set(owners(folder / "mine").values()) == {(0, 0)}
    assert (folder / "mine/data/a.txt").stat().st_mode & 0o777 == 0o600, "another group gets no rights of the first"


@needs_root
def test_over_the_living_data_too(home: Home) -> None:
    (home.data / "a.txt").write_text("changed")
    result = restore(home.settings, RestoreRequest(reference="latest", owner="1234:5678", safety=False))
    assert set(owners(home.data).values()) == {(1234, 5678)} and result.restored.unset == ()
    restore(home.settings, RestoreRequest(reference="latest", safety=False))
    assert owners(home.data)["sub/b.txt"] == (4001, 4000)


@needs_root
def test_a_user_who_is_not_root_reads_before_what_will_not_be_kept(home: Home, folder: Path, as_nobody: Nobody) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_relative_to(home.data):
            os.chown(path, 65534, 65534, follow_symlinks=False)
    with as_nobody():
        assert found(home, path=folder / "x")["owners"] == "everything belongs to nobody (65534)"
        kept = found(home, path=folder / "x", owner="keep")["owners"]
        assert kept == "cannot be kept, only root may give files away: everything belongs to nobody (65534)"
        given = found(home, path=folder / "x", owner="1234:5678")["owners"]
        assert "STOP" in given and "--owner 1234:5678" in given
        assert "STOP" not in found(home, path=folder / "x", owner="65534:65534")["owners"]
        assert not (folder / "x").exists() and not list(folder.glob(".scriptorium-probe*"))
        assert into(home, folder / "silent").restored.unset == ()
        result = into(home, folder / "x", owner="keep")
    (unset,) = result.restored.unset
    assert unset.count == 9 and len(unset.names) == NAMES
    report = restore_report(result)
    (line,) = [note for note in report.notes if "owner" in note]
    assert line.startswith("warning: the owner could not be set (Operation not permitted), 9 entries: ")
    assert report.document["not_set"] == [
        {
            "what": "the owner could not be set",
            "reason": "Operation not permitted",
            "count": 9,
            "names": unset.names,
        }
    ]


def test_a_place_without_attributes_is_named_before_and_counted_after(home: Home, plain: Path) -> None:
    lacks = probe(plain, Ownership()).lacks
    assert lacks.keys() == {ATTRIBUTES, LISTS} and list(plain.iterdir()) == []
    rows = found(home, path=plain / "back")
    assert rows[ATTRIBUTES].startswith(f"cannot be set at {plain} (Operation not supported)")
    result = into(home, plain / "back")
    (unset,) = result.restored.unset
    assert (unset.count, unset.what) == (5, "the attribute user.origin could not be set")
    assert (plain / "back/data/sub/b.txt").read_text() == "sub/b.txt"
    plan = plan_restore(home.settings, RestoreRequest(reference="latest", path=plain / "other")).preflight
    document = preflight_report("x", "lib", plan.rows).document["plan"]
    assert any(row["Looked at"] == "attributes" and "not supported" in row["Found"] for row in document)


@needs_root
def test_a_read_only_place_is_an_obstacle_and_programs_that_cannot_run_are_counted(home: Home, plain: Path) -> None:
    subprocess.run(["mount", "-o", "remount,noexec", plain], check=True)
    assert found(home, path=plain / "back")["programs"] == f"1 in the backup; none runs at {plain} (noexec)"
    subprocess.run(["mount", "-o", "remount,ro", plain], check=True)
    assert (
        "STOP" in found(home, path=plain / "back")["rights"]
        and "read-only" in found(home, path=plain / "back")["rights"]
    )


def test_links_and_owners_that_a_filesystem_refuses_are_left_out_and_named(
    home: Home, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As vfat does; no such filesystem can be mounted everywhere."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", refuse)
    monkeypatch.setattr(os, "fchown", refuse)
    rows = found(home, path=folder / "x")
    assert rows["symlinks"].startswith("1 in the backup; cannot be set at") and "left out and named" in rows["symlinks"]
    result = into(home, folder / "x", owner="me")
    assert not (folder / "x/data/link").is_symlink() and (folder / "x/data/a.txt").exists()
    assert any(
        str(one) == "data/link: the symlink could not be made (Operation not permitted)"
        for one in result.restored.unset
    )
    assert OWNERS in probe(folder, Ownership(0, 0, asked=True)).lacks


def test_the_preflight_in_place_probes_too(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", refuse)
    rows = found(home)
    assert "Operation not supported" in rows[ATTRIBUTES] and "narrowed" in rows[LISTS]
    assert supply_of(home.settings).options.ownership.given is None


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.text(max_size=3)), max_size=60))
def test_equal_errors_are_one_line_with_a_count_and_the_first_names(errors: list[tuple[str, str, str]]) -> None:
    tally = UnsetTally()
    for what, reason, name in errors:
        tally.add(what, reason, name)
    result = tally.result()
    assert sum(one.count for one in result) == len(errors)
    kinds = [(one.what, one.reason) for one in result]
    assert len(kinds) == len(set(kinds)) and kinds == list(dict.fromkeys((what, why) for what, why, _ in errors))
    for one in result:
        mine = [name for what, reason, name in errors if (what, reason) == (one.what, one.reason)]
        assert one.count == len(mine) and list(one.names) == mine[:NAMES]
        assert str(one).endswith(", …") == (one.count > NAMES)
