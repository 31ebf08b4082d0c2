"""Packed and unpacked: everything in a filesystem is restored as it was, by us and by plain tar."""

# Names are bytes here, which Path cannot hold.
# ruff: noqa: PTH101, PTH102, PTH103, PTH116, PTH123, PTH211

from __future__ import annotations

import contextlib
import errno
import os
import random
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scriptorium.members.ledger import Ledger
from scriptorium.model import Tree
from scriptorium.words import Compression

Picture = dict[bytes, tuple[object, ...]]
TAR = {
    Compression.GZIP: ["tar", "-xzpf"],
    Compression.ZSTD: ["tar", "--zstd", "-xpf"],
    Compression.NONE: ["tar", "-xpf"],
}
ODD_NAMES = [
    b"space in the middle",
    b" leading",
    b"trailing ",
    b"new\nline",
    b"car\rriage",
    b"back\\slash",
    b"ends in return\r",
    b"-",
    b"-rf",
    b"*glob?[x]",
    b"caf\xc3\xa9",
    b"latin-\xe9",
    b"\xff\xfe\x80",
    b"tab\t",
    b"quote'\"",
    b"~",
    b"1" * 255,
    "\u4e66\U0001f4da\u202e".encode(),
]


def odd_tree(root: bytes) -> None:
    """Everything that the issue names, in one tree."""
    os.makedirs(root + b"/folder/empty")
    for name in ODD_NAMES:
        with open(root + b"/" + name, "wb") as file:
            file.write(name * 3)
    os.makedirs(root + b"/" + b"/".join([b"long" * 30] * 6))
    with open(root + b"/" + b"/".join([b"long" * 30] * 6) + b"/end", "wb") as file:
        file.write(b"x")
    with open(root + b"/sparse", "wb") as file:
        file.seek(5 << 20)
        file.write(b"in the middle")
        file.truncate(9 << 20)
    open(root + b"/nothing", "wb").close()
    os.symlink(b"nothing", root + b"/link")
    os.symlink(b"/nowhere/" + b"\xff", root + b"/dangling")
    os.symlink(b"folder", root + b"/link-to-folder")
    os.symlink(b"x" * 300, root + b"/long-link")
    os.link(root + b"/sparse", root + b"/second name")
    os.link(root + b"/sparse", root + b"/folder/third name")
    for name, mode in [(b"nothing", 0o4755), (b"-rf", 0o000), (b"~", 0o6711), (b"folder/empty", 0o1777)]:
        os.chmod(root + b"/" + name, mode)
    with contextlib.suppress(OSError):
        os.setxattr(root + b"/tab\t", b"user.rating", b"\xff\x00\n5")
        os.setxattr(root + b"/folder", b"user.a=b%3D", b"x")
    if os.geteuid() == 0:
        os.chown(root + b"/link", 12345, 54321, follow_symlinks=False)
        os.chown(root + b"/tab\t", 3_000_000, 3_000_001)
        os.chown(root + b"/folder", 1, 2)
    for name, instant in [
        (b"-", 1),
        (b"caf\xc3\xa9", 1_700_000_000_123_456_789),
        (b"~", -1_000_000_001),  # before 1970
        (b"*glob?[x]", 4_500_000_000_999_999_999),  # after 2038
        (b"dangling", 17),
        (b"folder/empty", 1_111_111_111_000_000_001),
        (b"folder", 999_999_999),
    ]:
        os.utime(root + b"/" + name, ns=(instant, instant), follow_symlinks=False)


@pytest.mark.parametrize("compression", list(Compression))
def test_an_odd_tree_comes_back_as_it_was(
    archives: Any, tmp_path: Path, taken_picture: Callable[..., Picture], compression: Compression
) -> None:
    odd_tree(os.fsencode(tmp_path / "root"))
    before = taken_picture(tmp_path / "root")
    packed = archives.pack(Tree(str(tmp_path / "root"), "top"), compression=compression)
    assert packed.manifest.warnings == ()
    done = archives.unpack(packed, tmp_path / "back")
    assert done.unset == ()
    assert taken_picture(tmp_path / "back" / "top") == before
    assert done.files == packed.manifest.parts[0].files == sum(kind != 0o40000 for kind, *_ in before.values())
    sparse = os.stat(tmp_path / "back" / "top" / "sparse")
    assert sparse.st_blocks * 512 < 1 << 20 < sparse.st_size


@pytest.mark.parametrize("compression", list(Compression))
def test_plain_tar_and_sha256sum_agree_without_a_word(
    archives: Any, tmp_path: Path, taken_picture: Callable[..., Picture], compression: Compression
) -> None:
    root, back = tmp_path / "root", tmp_path / "back"
    odd_tree(os.fsencode(root))
    os.chmod(root / "-rf", 0o600)
    before = taken_picture(root)
    packed = archives.pack(Tree(str(root), ""), compression=compression)
    back.mkdir()
    command = [*TAR[compression], str(packed.path), "-C", str(back), "--xattrs", "--numeric-owner"]
    command.append("--warning=no-timestamp")  # it finds 1969 implausible and 2112 far away, rightly
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    sums = subprocess.run(["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=back, capture_output=True, check=False)
    assert sums.returncode == 0, sums.stdout.decode(errors="replace") + sums.stderr.decode()
    assert sums.stdout.count(b": OK") == sum(1 for e in packed.manifest.files.entries if e.kind == "file") + 2
    own = {b"/backup_metadata.json", b"/manifest.json", b"/SHA256SUMS"}
    after = taken_picture(back)
    assert own < after.keys()
    assert {name: state for name, state in after.items() if name not in own} == before


def test_the_members_stand_in_the_promised_order(archives: Any, tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text(name)
    packed = archives.pack(Tree(str(tmp_path / "b"), "b"), Tree(str(tmp_path / "a"), "a"))
    listed = subprocess.run(["tar", "-tzf", str(packed.path)], capture_output=True, text=True, check=True).stdout
    assert listed.split() == ["backup_metadata.json", "b/", "b/x", "a/", "a/x", "manifest.json", "SHA256SUMS"]


def test_a_list_of_more_than_ten_thousand_is_a_member(
    archives: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scriptorium.members.ledger.INLINE", 20)
    (tmp_path / "root").mkdir()
    for number in range(30):
        (tmp_path / "root" / f"{number}").write_text(str(number))
    packed = archives.pack(Tree(str(tmp_path / "root"), "top"))
    files = packed.manifest.files
    assert (files.entries, files.member, files.count) == (None, "files.jsonl", 31)
    listed = subprocess.run(["tar", "-tzf", str(packed.path)], capture_output=True, text=True, check=True).stdout
    assert listed.split()[-3:] == ["files.jsonl", "manifest.json", "SHA256SUMS"]
    assert archives.unpack(packed, tmp_path / "back").files == 30
    subprocess.run(["tar", "-xzf", str(packed.path), "-C", str(tmp_path / "back")], check=True)
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=tmp_path / "back", check=True)
    assert not list(archives.folder.glob(".*"))  # the spool is gone


def test_the_limit_is_ten_thousand(tmp_path: Path) -> None:
    from scriptorium.model import FileEntry

    with contextlib.closing(Ledger(tmp_path)) as ledger:
        for number in range(10_000):
            ledger.add(FileEntry(str(number), "folder", 0, 0o755, 0))
        assert ledger.listed().member is None
        ledger.add(FileEntry("more", "folder", 0, 0o755, 0))
        assert ledger.listed().member == "files.jsonl"


def test_parts_inside_each_other_and_the_folders_above_them(
    archives: Any, tmp_path: Path, taken_picture: Callable[..., Picture]
) -> None:
    home, stage = tmp_path / "home", tmp_path / "stage"
    (home / "data" / "kuzu").mkdir(parents=True)
    (home / "data" / "kuzu" / "graph.db").write_text("live, never to be copied as a file")
    (home / "data" / "cover.jpg").write_text("cover")
    (home / "data").chmod(0o750)
    (home / "data" / "kuzu").chmod(0o711)
    stage.mkdir()
    (stage / "snapshot").write_text("consistent")
    packed = archives.pack(
        archives.staged("graph", Tree(str(stage / "snapshot"), "data/kuzu/graph.db"), kind="kuzu"),
        archives.staged("data", Tree(str(home / "data"), "data", exclude=("kuzu/",))),
    )
    assert packed.paths == ["data", "data/kuzu", "data/kuzu/graph.db", "data/cover.jpg"]
    assert [(part.files, part.bytes) for part in packed.manifest.parts] == [(1, 10), (1, 5)]
    archives.unpack(packed, tmp_path / "back")
    assert (tmp_path / "back/data/kuzu/graph.db").read_text() == "consistent"
    assert (tmp_path / "back/data").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "back/data/kuzu").stat().st_mode & 0o777 == 0o711


def test_trees_that_share_a_place_are_merged_and_doubles_are_reported(archives: Any, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "both").write_text(name)
        (tmp_path / name / "sub" / name).write_text(name)
    packed = archives.pack(Tree(str(tmp_path / "one"), "x"), Tree(str(tmp_path / "two"), "x"))
    assert packed.paths == ["x", "x/both", "x/sub", "x/sub/one", "x/sub/two"]
    assert packed.manifest.warnings == ("x/both: another tree saved it already, skipped",)


def test_a_file_with_one_of_our_names_is_refused(archives: Any, tmp_path: Path) -> None:
    from scriptorium.errors import UsageError

    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "manifest.json").write_text("{}")
    with pytest.raises(UsageError, match=r"manifest\.json"):
        archives.pack(Tree(str(tmp_path / "root"), ""))
    assert not list(archives.folder.iterdir())
    archives.pack(Tree(str(tmp_path / "root"), "below"))


def test_the_same_input_gives_the_same_bytes(archives: Any, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a").write_bytes(os.urandom(3 << 20) + bytes(3 << 20))
    first = archives.pack(Tree(str(tmp_path / "root"), "x"), name="1.tar.gz", id="a" * 12)
    parts = [member for member in first.manifest.files.entries]
    second = archives.pack(Tree(str(tmp_path / "root"), "x"), name="2.tar.gz", id="a" * 12)
    assert list(second.manifest.files.entries) == parts
    assert abs(second.manifest.archive.bytes - first.manifest.archive.bytes) < 200  # only ``finished_at`` differs


@pytest.mark.parametrize("compression", list(Compression))
def test_contents_of_every_kind_across_the_borders_of_blocks(
    archives: Any, tmp_path: Path, taken_picture: Callable[..., Picture], compression: Compression
) -> None:
    chance = random.Random(7)
    words = [chance.randbytes(chance.randrange(1, 9)) for _ in range(3000)]
    prose = b" ".join(chance.choices(words, k=1_500_000))
    root, back = tmp_path / "root", tmp_path / "back"
    root.mkdir()
    border = 4 << 20
    (root / "prose").write_bytes(prose[: 2 * border + 1])
    (root / "noise").write_bytes(chance.randbytes(border + 7))
    (root / "in turns").write_bytes(b"".join(prose[n : n + 300_000] + chance.randbytes(300_000) for n in range(12)))
    for size in (1, 511, 512, 513, 65_535, 65_536, (1 << 20) - 1536, 1 << 20, border - 1):
        (root / f"{size} bytes").write_bytes(prose[:size])
    packed = archives.pack(Tree(str(root), "x"), compression=compression)
    archives.unpack(packed, back)
    assert taken_picture(back / "x") == taken_picture(root)
    subprocess.run([*TAR[compression], str(packed.path), "-C", str(tmp_path / "archives"), "x"], check=True)
    subprocess.run(["diff", "-r", str(root), str(tmp_path / "archives" / "x")], check=True)


def test_folders_that_their_owner_may_not_write_come_back_without_being_root(
    archives: Any, tmp_path: Path, as_nobody: Any
) -> None:
    (tmp_path / "root" / "locked" / "deep").mkdir(parents=True)
    (tmp_path / "root" / "locked" / "deep" / "file").write_text("x")
    (tmp_path / "root" / "locked" / "deep" / "file").chmod(0o400)
    (tmp_path / "root" / "locked" / "deep").chmod(0o500)
    (tmp_path / "root" / "locked").chmod(0o000)
    packed = archives.pack(Tree(str(tmp_path / "root"), "x"))
    back = tmp_path / "back"
    back.mkdir()
    if os.geteuid() == 0:
        for path in (back, archives.folder, packed.path):
            os.chown(path, 65534, 65534)
    with as_nobody():
        done = archives.unpack(packed, back)
    assert done.unset == ()
    assert (back / "x/locked").stat().st_mode & 0o777 == 0
    (back / "x/locked").chmod(0o700)
    assert (back / "x/locked/deep").stat().st_mode & 0o777 == 0o500
    assert (back / "x/locked/deep/file").read_text() == "x"
    if os.geteuid() != 0:
        for folder in (tmp_path / "root", back / "x"):
            subprocess.run(["chmod", "-R", "u+rwX", str(folder)], check=True)


def test_the_archive_is_private_and_nothing_else_is_left(archives: Any, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    packed = archives.pack(Tree(str(tmp_path / "root"), "x"))
    assert packed.path.stat().st_mode & 0o777 == 0o600
    assert list(archives.folder.iterdir()) == [packed.path]


def test_an_interrupted_packing_leaves_nothing(archives: Any, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "big").write_bytes(os.urandom(20 << 20))

    def interrupt(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        archives.pack(Tree(str(tmp_path / "root"), "x"), advance=interrupt)
    assert not list(archives.folder.iterdir())


def test_a_full_disk_is_named_and_leaves_nothing(archives: Any, tmp_path: Path) -> None:
    import resource

    from scriptorium.errors import NoSpace

    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "big").write_bytes(os.urandom(20 << 20))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, hard))  # the kernel answers EFBIG: as hopeless as ENOSPC
    try:
        with pytest.raises(NoSpace) as caught:
            archives.pack(Tree(str(tmp_path / "root"), "x"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.exit_code == 7
    assert isinstance(caught.value.__cause__, OSError) and caught.value.__cause__.errno == errno.EFBIG
    assert not list(archives.folder.iterdir())


def test_progress_counts_every_byte(archives: Any, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a").write_bytes(os.urandom(3_000_000))
    (tmp_path / "root" / "b").write_bytes(b"x" * 17)
    advanced: list[int] = []
    packed = archives.pack(Tree(str(tmp_path / "root"), "x"), advance=advanced.append)
    assert sum(advanced) == 3_000_017 == packed.manifest.parts[0].bytes


names = st.sampled_from(ODD_NAMES) | st.binary(min_size=1, max_size=20).map(
    lambda raw: raw.replace(b"/", b"_").replace(b"\0", b"_")
)
times = st.integers(-(2**31) * 10**9, (2**33) * 10**9)
leaves = st.one_of(
    st.tuples(st.just("file"), st.binary(max_size=3000), st.sampled_from([0o600, 0o644, 0o000, 0o4711]), times),
    st.tuples(st.just("link"), st.binary(min_size=1, max_size=40).map(lambda raw: raw.replace(b"\0", b"0")), times),
)
trees = st.recursive(
    st.dictionaries(names, leaves, max_size=4),
    lambda inner: st.dictionaries(names, leaves | inner, max_size=4),
    max_leaves=12,
)


def plant(root: bytes, tree: dict[bytes, Any]) -> None:
    os.mkdir(root)
    for name, what in tree.items():
        path = root + b"/" + name
        if name in (b".", b"..") or name.startswith(b".scriptorium-"):
            continue
        if isinstance(what, dict):
            plant(path, what)
        elif what[0] == "file":
            with open(path, "wb") as file:
                file.write(what[1])
            os.chmod(path, what[2])
            os.utime(path, ns=(what[3], what[3]))
        else:
            os.symlink(what[1], path)
            os.utime(path, ns=(what[2], what[2]), follow_symlinks=False)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(tree=trees, compression=st.sampled_from(list(Compression)))
def test_any_tree_comes_back_as_it_was(
    taken_picture: Callable[..., Picture], archive_maker: Any, tree: dict[bytes, Any], compression: Compression
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        archives = archive_maker(Path(scratch) / "archives")
        plant(os.fsencode(scratch) + b"/root", tree)
        before = taken_picture(f"{scratch}/root")
        packed = archives.pack(Tree(f"{scratch}/root", "top"), compression=compression)
        archives.unpack(packed, Path(scratch) / "back")
        assert taken_picture(f"{scratch}/back/top") == before
        extract = f"{' '.join(TAR[compression])} {packed.path} -C {scratch}/back 2>/dev/null"
        check = f"cd {scratch}/back && sha256sum -c --quiet SHA256SUMS"
        sums = subprocess.run(["sh", "-c", f"{extract}; {check}"], capture_output=True, check=False)
        assert sums.returncode == 0, sums.stderr
