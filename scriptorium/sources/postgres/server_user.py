"""The user that a temporary server runs as, and a folder that this user can use.

PostgreSQL refuses to run as root. If we are root it runs as ``nobody``, who can enter neither a clone below /root nor a
``TMPDIR`` of root. Then the programs that it needs are copied into its own folder. ``initdb`` refuses a user number
without a name: then it runs in a namespace in which the number has one.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scriptorium import process
from scriptorium.errors import ScriptoriumError, ToolFailed, ToolMissing
from scriptorium.fs.removal import remove_tree

_CANDIDATES = ("nobody", "daemon", "postgres")
_COPIED = "programs"  # inside the server's folder
_PROGRAMS = ("initdb", "postgres")
# Other places for the folder, if the user cannot enter the wanted one, or nothing can be executed in it.
_PLACES = ("/var/tmp", "/tmp", "/dev/shm")  # noqa: S108 -- the folder itself is made by mkdtemp


@dataclass(frozen=True)
class ServerUser:
    """The user that a server runs as; ``switched``: it is another user, because we are root."""

    uid: int
    gid: int
    name: str
    switched: bool

    def command(self, argv: list[str], *, death: str = "KILL") -> list[str]:
        """The command, run as this user. It ends when we end: the kernel resets the signal at the parent's death when
        the user changes, so it is set again."""
        if not self.switched:
            return argv
        setpriv = process.find_tool("setpriv", package="util-linux")
        return [
            setpriv,
            f"--reuid={self.uid}",
            f"--regid={self.gid}",
            "--clear-groups",
            "--pdeathsig",
            death,
            "--",
            *argv,
        ]

    def give(self, path: Path) -> None:
        """Make this user the owner."""
        if self.switched:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def server_user() -> ServerUser:
    """Our own user; for root the first unprivileged user that this system has."""
    if os.geteuid() != 0:
        with contextlib.suppress(KeyError):
            return ServerUser(os.geteuid(), os.getegid(), pwd.getpwuid(os.geteuid()).pw_name, switched=False)
        return ServerUser(os.geteuid(), os.getegid(), "", switched=False)
    for name in _CANDIDATES:
        with contextlib.suppress(KeyError):
            who = pwd.getpwnam(name)
            return ServerUser(who.pw_uid, who.pw_gid, name, switched=True)
    raise ToolMissing("PostgreSQL refuses to run as root, and this system has no user nobody", on="/etc/passwd")


def named(user: ServerUser, argv: list[str]) -> list[str]:
    """The command, run in a place where the number of this user has a name, which ``initdb`` needs."""
    if user.name:
        return user.command(argv)
    unshare = shutil.which("unshare")
    if unshare is None:
        return argv
    who = pwd.getpwnam("nobody")
    inside = [unshare, "--user", f"--map-user={who.pw_uid}", f"--map-group={who.pw_gid}", "--"]
    return [*inside, *argv] if _works([*inside, "true"]) else argv


def runnable(programs: Path, folder: Path, user: ServerUser) -> Path | None:
    """A folder with programs of the server that this user can run: the given one, else a copy in ``folder``. ``None``
    if neither can be run."""
    if not _works(user.command(["test", "-w", str(folder / "data")])):
        return None
    if _runs(programs, user):
        return programs
    if not user.switched:
        return None
    copied = folder / _COPIED / Path(*programs.parts[-3:])
    if not copied.exists():
        _copy(programs, copied)
    return copied if _runs(copied, user) else None


def places(inside: Path | None) -> Iterator[Path]:
    """The places where a server's folder may be made, the wanted one first."""
    first = inside or Path(tempfile.gettempdir())
    yield first
    for place in map(Path, _PLACES):
        if place != first and place.is_dir():
            yield place


def prepare(folder: Path, user: ServerUser) -> None:
    """Prepare the folder. We stay its owner, so that no other user can write to it. The server's user may only enter
    it, to reach the data, which belong to that user."""
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o711 if user.switched else 0o700)
    data = folder / "data"
    if not data.exists():
        data.mkdir(mode=0o700)
        user.give(data)


def make_folder(prefix: str, inside: Path | None, programs: Path, user: ServerUser) -> tuple[Path, Path]:
    """A new folder that this user can enter, and the folder of its programs. ``ToolFailed`` says what was tried."""
    tried: list[str] = []
    for place in places(inside):
        try:
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        except OSError as error:
            tried.append(f"{place} ({error.strerror})")
            continue
        try:
            prepare(folder, user)
            if found := runnable(programs, folder, user):
                return folder, found
            tried.append(str(place))
        except OSError as error:
            tried.append(f"{place} ({error.strerror})")
        except BaseException:
            remove_tree(folder)
            raise
        remove_tree(folder)
    raise ToolFailed(
        f"no PostgreSQL server could be made: there is no folder in which the user {user.name or user.uid} can run it",
        on=str(programs),
        hint=f"tried: {', '.join(tried)}; set TMPDIR to a folder that this user can enter, with 100 MB free",
    )


def _runs(programs: Path, user: ServerUser) -> bool:
    return all(_works(user.command([str(programs / name), "--version"])) for name in _PROGRAMS)


def _works(argv: list[str]) -> bool:
    try:
        return process.run(argv, cwd=Path("/"), timeout=60, check=False).status == 0
    except (OSError, ScriptoriumError):
        return False


def _copy(programs: Path, target: Path) -> None:
    """Copy the two programs with their libraries and data files, in the same relative places (a wheel's libraries are
    in ``<wheel>.libs`` beside it). They contain no secret, so everybody may read them."""
    target.mkdir(parents=True)
    for name in _PROGRAMS:
        shutil.copyfile(programs / name, target / name)
    install, wheel = programs.parent, programs.parent.parent
    beside = target.parents[2] / f"{wheel.name}.libs"
    for source, copy in (
        (install / "lib", target.parent / "lib"),
        (install / "share", target.parent / "share"),
        (wheel.with_name(beside.name), beside),
    ):
        if source.is_dir():
            skipped = shutil.ignore_patterns("*.a", "pkgconfig", "pgxs", "doc", "man")
            shutil.copytree(source, copy, symlinks=True, ignore=skipped, copy_function=shutil.copyfile)
    top = target.parents[2]
    for path in (top, *top.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755)
