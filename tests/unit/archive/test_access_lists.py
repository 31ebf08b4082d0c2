"""Access lists are restored, also by other programs; nothing is ever open to more people than before."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import struct
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scriptorium.fs import access_lists
from scriptorium.fs.access_lists import ACCESS, DEFAULT, AccessList
from scriptorium.model import Tree

_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER, _NOBODY = 1, 2, 4, 8, 16, 32, 0xFFFFFFFF
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="owners are given by root")


def listed(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *one) for one in entries)


# the owner and user 1005 read and write, the owning group has no right at all: the mode shows 0660
DIARY = listed(
    (_USER_OBJ, 6, _NOBODY), (_USER, 6, 1005), (_GROUP_OBJ, 0, _NOBODY), (_MASK, 6, _NOBODY), (_OTHER, 0, _NOBODY)
)
SHARED = listed(
    (_USER_OBJ, 7, _NOBODY), (_GROUP_OBJ, 5, _NOBODY), (_GROUP, 7, 3000), (_MASK, 7, _NOBODY), (_OTHER, 0, _NOBODY)
)

# everybody reads, but not user 1005
OTHERS_READ = listed(
    (_USER_OBJ, 6, _NOBODY), (_USER, 0, 1005), (_GROUP_OBJ, 4, _NOBODY), (_MASK, 4, _NOBODY), (_OTHER, 4, _NOBODY)
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "shared").mkdir(parents=True)
    (root / "diary").write_text("secret")
    (root / "plain").write_text("plain")
    for path in (root / "diary", root / "plain"):
        path.chmod(0o640)
        if os.geteuid() == 0:
            os.chown(path, 1001, 2000)
    try:
        os.setxattr(root / "diary", ACCESS, DIARY)
        for name in (ACCESS, DEFAULT):
            os.setxattr(root / "shared", name, SHARED)
    except OSError:
        pytest.skip("no access lists on this filesystem")
    (root / "shared" / "book").write_text("a book")  # it inherits
    (root / "second").hardlink_to(root / "diary")
    return root


def lists(root: Path) -> dict[str, tuple[int, dict[str, bytes]]]:
    """Modes and access lists."""
    found = {}
    for path in (root, *sorted(root.rglob("*"))):
        held = {name: os.getxattr(path, name) for name in os.listxattr(path) if name in (ACCESS, DEFAULT)}
        found[str(path.relative_to(root))] = (stat.S_IMODE(path.stat().st_mode), held)
    return found


@contextlib.contextmanager
def user(uid: int, gid: int) -> Iterator[None]:
    before = os.getgroups()
    os.setgroups([])
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


@contextlib.contextmanager
def entered(folder: Path) -> Iterator[None]:
    """Everybody may enter the folder, and those above it."""
    folder.chmod(0o755)
    lifted = []
    for parent in folder.parents:
        if not parent.stat().st_mode & 0o001:
            lifted.append((parent, parent.stat().st_mode & 0o7777))
            parent.chmod(parent.stat().st_mode & 0o7777 | 0o001)
    try:
        yield
    finally:
        for parent, mode in lifted:
            parent.chmod(mode)


def may_read(path: Path, uid: int, gid: int) -> bool:
    done = subprocess.run(
        ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "cat", "--", path.name],
        cwd=path.parent, capture_output=True, check=False,
    )  # fmt: skip
    return done.returncode == 0


def test_access_lists_come_back(archives: Any, tree: Path, tmp_path: Path) -> None:
    packed = archives.pack(Tree(str(tree), "x"))
    unpacked = archives.unpack(packed, tmp_path / "back")
    assert unpacked.unset == () and lists(tmp_path / "back" / "x") == lists(tree)
    assert packed.manifest.warnings == ()
    with tarfile.open(packed.path) as tar:
        for name in ("x/diary", "x/second"):
            assert tar.getmember(name).mode == 0o600, "whoever unpacks it without its list opens it to nobody"


@ROOT
@pytest.mark.parametrize(
    ("program", "kept"), [(("tar", "--acls", "-xp"), True), (("bsdtar", "-xp"), True), (("tar", "-xp"), False)]
)
def test_other_programs_bring_them_back_or_open_nothing(
    archives: Any, tree: Path, tmp_path: Path, program: tuple[str, ...], kept: bool
) -> None:
    if shutil.which(program[0]) is None:
        pytest.skip(f"{program[0]} is not installed")
    (tmp_path / "back").mkdir()
    packed = archives.pack(Tree(str(tree), "x"))
    subprocess.run([*program, "-f", str(packed.path), "-C", str(tmp_path / "back")], check=True)
    back = tmp_path / "back" / "x"
    assert (lists(back) == lists(tree)) is kept
    for folder in (tmp_path, back.parent, back):
        folder.chmod(0o755)
    assert not may_read(back / "diary", 1777, 2000) and may_read(back / "diary", 1005, 1005) is kept


@ROOT
def test_where_they_cannot_be_set_nothing_is_open_to_more_people(
    archives: Any, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.setxattr

    def without_lists(path: Any, name: Any, *arguments: Any, **given: Any) -> None:
        if name in (ACCESS, DEFAULT):
            raise OSError(95, "Operation not supported")
        real(path, name, *arguments, **given)

    packed = archives.pack(Tree(str(tree), "x"))
    monkeypatch.setattr(os, "setxattr", without_lists)
    unpacked = archives.unpack(packed, tmp_path / "back")
    (unset,) = unpacked.unset
    assert str(unset).startswith("the access list could not be set (Operation not supported), 3 entries: x/diary, ")
    modes = {path: mode for path, (mode, _) in lists(tmp_path / "back" / "x").items()}
    assert modes["diary"] == 0o600 and modes["shared"] == 0o750 and modes["plain"] == 0o640


@pytest.mark.parametrize(
    ("text", "mode", "expected"),
    [
        ("user::rw-,user:1005:---,group::r--,mask::r--,other::r--", 0o644, 0o600),
        ("user::rw-,group::r--,group:3000:---,mask::r--,other::r--", 0o644, 0o640),
        ("user::rwx,user:1005:r-x,group::rwx,group:3000:r--,mask::rwx,other::rwx", 0o777, 0o754),
        ("user::rw-,user:1005:rw-,group::r--,mask::r--,other::r--", 0o644, 0o644),
        ("user::rwx,group::rwx,mask::r--,other::rw-", 0o4746, 0o4746),
    ],
)
def test_whom_a_list_kept_out_gets_nothing_by_the_mode_alone(text: str, mode: int, expected: int) -> None:
    assert AccessList.of_text(text).replaced(mode) == expected


@pytest.mark.parametrize("readable", [True, False])
def test_a_list_that_kept_somebody_out_and_cannot_be_set(
    archives: Any, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, readable: bool
) -> None:
    (tree / "plain").chmod(0o644)
    kept_out = ((_USER_OBJ, 6, _NOBODY), (_USER, 0, 1005), (_GROUP_OBJ, 4, _NOBODY), (_MASK, 4, _NOBODY))
    os.setxattr(tree / "plain", ACCESS, listed(*kept_out, (_OTHER, 4, _NOBODY)))
    packed = archives.pack(Tree(str(tree), "x"))

    def refused(*_: object) -> None:
        raise (OSError(95, "Operation not supported") if readable else ValueError("nobody here is called lisa"))

    if readable:
        monkeypatch.setattr("scriptorium.members.writing.set_lists", refused)
    else:
        monkeypatch.setattr(AccessList, "of_text", refused)
    archives.unpack(packed, tmp_path / "back")
    assert lists(tmp_path / "back" / "x")["plain"][0] == 0o600


@ROOT
@pytest.mark.parametrize("program", [("tar", "-xp"), ("tar", "--acls", "-xp"), None])
def test_whom_a_list_keeps_out_stays_out_without_it(
    archives: Any, tree: Path, tmp_path: Path, program: tuple[str, ...] | None
) -> None:
    """Also if other programs unpack the archive; with its list it is as before."""
    os.setxattr(tree / "plain", ACCESS, OTHERS_READ)
    packed = archives.pack(Tree(str(tree), "x"))
    (tmp_path / "back").mkdir()
    if program is None:
        archives.unpack(packed, tmp_path / "back")
    else:
        subprocess.run([*program, "-f", str(packed.path), "-C", str(tmp_path / "back")], check=True)
    without = program is not None and "--acls" not in program
    assert lists(tmp_path / "back" / "x")["plain"] == ((0o600, {}) if without else (0o644, {ACCESS: OTHERS_READ}))


@ROOT
def test_the_members_of_a_group_that_was_kept_out_stay_out(archives: Any, tree: Path, tmp_path: Path) -> None:
    """Without rights the owning group differs, and the members of the old group count as others."""
    (tree / "plain").chmod(0o604)
    packed = archives.pack(Tree(str(tree), "x"))
    (tmp_path / "back").mkdir()
    for path in (archives.folder, *archives.folder.iterdir(), tmp_path / "back"):
        os.chown(path, 65534, 65534)
    with entered(tmp_path), user(65534, 65534):
        archives.unpack(packed, tmp_path / "back")
    assert lists(tmp_path / "back" / "x")["plain"][0] == 0o600


@ROOT
def test_a_folder_that_may_not_be_read_is_not_opened_by_its_mode(archives: Any, tree: Path, tmp_path: Path) -> None:
    """Its list can still be read; the group bits of its mode are the mask of the list."""
    closed = tree / "closed"
    closed.mkdir()
    theirs = ((_USER_OBJ, 7, _NOBODY), (_USER, 7, 1005), (_GROUP_OBJ, 0, _NOBODY), (_MASK, 7, _NOBODY))
    os.setxattr(closed, ACCESS, listed(*theirs, (_OTHER, 0, _NOBODY)))
    for path in (archives.folder, tree):
        os.chown(path, 65534, 65534)
    with entered(tmp_path), user(65534, 65534):
        packed = archives.pack(Tree(str(tree), "x"))
    with tarfile.open(packed.path) as tar:
        member = tar.getmember("x/closed")
    assert member.mode == 0o700 and "SCHILY.acl.access" in member.pax_headers


@ROOT
def test_a_program_that_runs_as_its_owner_does_not_run_as_another(
    archives: Any, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "plain").chmod(0o6755)
    packed = archives.pack(Tree(str(tree), "x"))
    archives.unpack(packed, tmp_path / "kept")
    assert lists(tmp_path / "kept" / "x")["plain"][0] == 0o6755

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refused)
    unpacked = archives.unpack(packed, tmp_path / "back")
    assert lists(tmp_path / "back" / "x")["plain"][0] & 0o6000 == 0
    (unset,) = unpacked.unset
    assert str(unset).startswith("the owner could not be set (Operation not permitted), 5 entries: ")
    assert "x/plain" in unset.names


@ROOT
def test_while_it_is_written_a_file_is_open_to_nobody_else(
    archives: Any, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each step of setting owner, list and mode; also if the folder has a default list."""
    back = tmp_path / "back"
    back.mkdir()
    os.setxattr(back, DEFAULT, SHARED)
    packed = archives.pack(Tree(str(tree), "x"))
    seen = []

    def looked_at(name: str) -> None:
        real = getattr(os, name)

        def looking(descriptor: Any, *arguments: Any, **given: Any) -> Any:
            done = real(descriptor, *arguments, **given)
            path = Path(f"/proc/self/fd/{descriptor}").readlink() if isinstance(descriptor, int) else Path(descriptor)
            if path.name in ("diary", "plain"):
                found = {one: os.getxattr(path, one) for one in os.listxattr(path) if one == ACCESS}
                seen.append((path.name, stat.S_IMODE(path.stat().st_mode), found.get(ACCESS)))
            return done

        monkeypatch.setattr(os, name, looking)

    for name in ("fchown", "setxattr", "removexattr", "fchmod", "utime"):
        looked_at(name)
    archives.unpack(packed, back)
    assert len(seen) > 5
    for name, mode, access in seen:
        found = AccessList.of_kernel(access) if access else None
        others = (
            [one for one in found.entries if one.tag in (_USER, _GROUP) and one.rights & found.mask] if found else []
        )
        allowed = 0o640 if name == "plain" else 0o660 if access == DIARY else 0o600
        assert mode | allowed == allowed and (not others or access == DIARY), (name, oct(mode), found)
    assert lists(back / "x")["plain"] == (0o640, {}), "a list that only the target's folder has is not put on it"


@ROOT
def test_without_rights_a_file_is_not_opened_to_another_group(archives: Any, tree: Path, tmp_path: Path) -> None:
    packed = archives.pack(Tree(str(tree), "x"))
    os.chown(archives.folder, 65534, 65534)
    for file in archives.folder.iterdir():
        os.chown(file, 65534, 65534)
    (tmp_path / "back").mkdir()
    os.chown(tmp_path / "back", 65534, 65534)
    with entered(tmp_path), user(65534, 65534):
        archives.unpack(packed, tmp_path / "back")
    found = lists(tmp_path / "back" / "x")
    assert found["plain"] == (0o600, {}), "who is in our group was not in that one"
    assert found["diary"][1] == {ACCESS: DIARY}


def test_what_is_not_kept_is_named_once_and_counted(archives: Any, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    for name in ("a", "b", "c"):
        (root / name).write_text("x")
        try:
            os.setxattr(root / name, "trusted.odd", b"1")
        except OSError:
            pytest.skip("trusted attributes cannot be set here")
    os.setxattr(root / "b", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    flagged = subprocess.run(["chattr", "+i", str(root / "c")], check=False, capture_output=True).returncode == 0
    try:
        warnings = archives.pack(Tree(str(root), "x")).manifest.warnings
    finally:
        subprocess.run(["chattr", "-i", str(root / "c")], check=False, capture_output=True)
    assert "x/a: the attribute trusted.odd is not kept, nor of 2 more" in warnings
    assert "x/b: the attribute security.capability is not kept" in warnings
    assert ("x/c: the flag immutable is not kept" in warnings) is flagged


@pytest.mark.parametrize(
    "text",
    ["user::rw-\nuser:lisa:rw-\n", "user::rwq", "user", "mask:5:rwx", "user:4294967295:rw-", "user:-1:rw-", "::rwx"],
)
def test_a_list_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        AccessList.of_text(text)


def test_a_list_names_users_who_have_a_name_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_lists, "user_name", lambda number: "lisa" if number == 1005 else "")
    monkeypatch.setattr(access_lists, "user_number", lambda name, number: 7 if name == "lisa" else number)
    text = AccessList.of_kernel(DIARY).text()
    assert text == "user::rw-,user:lisa:rw-:1005,group::---,mask::rw-,other::---"
    assert AccessList.of_text(text).entries[1].number == 7, "by name where it is known, as owners are"
    assert AccessList.of_text(text.replace("lisa", "bob")).entries[1].number == 1005
