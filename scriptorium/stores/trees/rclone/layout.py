"""What lies in a remote: ``<library>/<label>/`` for each backup.

``put.json`` (who writes it) comes first. ``contents/`` holds the files at their paths in the backup, ``renamed/`` those
whose names the remote cannot hold. The record and ``SHA256SUMS`` lie beside them. ``manifest.json`` comes last: its
presence is the commit.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from scriptorium.errors import DamageFound, NotFound, StoreUnavailable
from scriptorium.manifest import Record, decoded, encoded
from scriptorium.members.selection import decoded as text_of
from scriptorium.members.selection import encoded as bytes_of
from scriptorium.stores.trees.rclone.program import Rclone

MANIFEST, ANNOTATIONS, CLAIM = "manifest.json", "annotations.json", "put.json"
CONTENTS, RENAMED, NAMES = "contents", "renamed", "renamed.json"
_LISTED = re.compile(r"contents_(\d+)\.jsonl")
_STAMP = re.compile(r"(\d{8})_(\d{6})")


@dataclass(slots=True)
class Seen:
    """One folder ``<library>/<label>`` as the listing shows it: size and time of its files, its folders."""

    library: str
    label: str
    files: dict[str, tuple[int, datetime]] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)

    @property
    def key(self) -> str:
        return f"{self.library}/{self.label}"

    @property
    def is_backup(self) -> bool:
        return MANIFEST in self.files

    @property
    def listed(self) -> str:
        """The name of the list of its stored files; it says how many bytes they have."""
        return next(filter(_LISTED.fullmatch, self.files), "")

    @property
    def bytes(self) -> int:
        found = _LISTED.fullmatch(self.listed)
        return int(found[1]) if found else 0

    @property
    def complete(self) -> bool:
        """Whether it has contents, or had none."""
        return bool(self.listed) and (not self.bytes or bool(self.folders & {CONTENTS, RENAMED}))

    @property
    def changed(self) -> datetime:
        """The newest time that is known of it: of its own files, or in its label."""
        times = [time for _, time in self.files.values()]
        if found := _STAMP.search(self.label):
            times.append(datetime.strptime(found[0], "%Y%m%d_%H%M%S").replace(tzinfo=UTC))
        return max(times, default=datetime.fromtimestamp(0, UTC))

    @property
    def stamp(self) -> str:
        parts = (self.files.get(name) for name in (MANIFEST, ANNOTATIONS))
        return "/".join(f"{one[0]}@{one[1].timestamp():.6f}" if one else "-" for one in parts) + (
            "" if self.complete else "/damaged"
        )


def listed_name(bytes: int) -> str:
    return f"contents_{bytes}.jsonl"


def survey(program: Rclone, library: str = "", label: str = "") -> list[Seen]:
    """Every backup and what is left of others, or those of one library."""
    above = [part for part in (library, label) if part]
    found: dict[str, Seen] = {}
    depth = 3 - len(above)
    for entry in listed(program, program.at(*above), "--use-server-modtime", f"--max-depth={depth}"):
        parts = [*above, *entry.path.split("/")]
        if depth == 3 and len(parts) == 1 and not entry.folder and program.remote.endswith(entry.path):
            _require_folder(program)
        if len(parts) < 2 or (len(parts) == 2 and not entry.folder):
            continue
        one = found.setdefault("/".join(parts[:2]), Seen(parts[0], parts[1]))
        if len(parts) == 3 and entry.folder:
            one.folders.add(parts[2])
        elif len(parts) == 3:
            one.files[parts[2]] = (entry.size, entry.time)
    return [one for _, one in sorted(found.items()) if one.files or not _is_shadow(program, one)]


def _is_shadow(program: Rclone, seen: Seen) -> bool:
    """Some servers list the folders of what was removed from a bucket for a while."""
    return program.abilities.bucket and not list(listed(program, program.at(seen.key), "--files-only", "--no-modtime"))


def _require_folder(program: Rclone) -> None:
    stat = json.loads(program.run("lsjson", "--stat", program.remote).stdout or b"{}")
    if not stat.get("IsDir", True):
        raise StoreUnavailable("the remote's path is a file and no folder", on=program.name, hint="check the remote")


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a listing."""

    path: str
    size: int
    folder: bool
    time: datetime
    hash: str = ""


def listed(program: Rclone, address: str, *words: str) -> Iterator[Entry]:
    """What lies below an address; nothing where there is no such folder."""
    try:
        with program.stream("lsjson", "-R", "--no-mimetype", *words, address) as output:
            for line in output:
                text = line.strip().rstrip(b",")
                if text in (b"[", b"]", b""):
                    continue
                yield _entry(decoded(text, "listing of rclone"))
    except NotFound:
        return


def _entry(record: Record) -> Entry:
    hashes = record.optional_record("Hashes")
    value = next((str(one) for one in hashes.raw.values()), "") if hashes is not None else ""
    size = record.raw.get("Size")
    time = _time(record.optional_text("ModTime") or "")
    return Entry(record.text("Path"), size if isinstance(size, int) else 0, record.flag("IsDir"), time, value)


def _time(text: str) -> datetime:
    """A time as Go prints it, with up to nine places."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)", text)
    if found is None:
        return datetime.fromtimestamp(0, UTC)
    zone = "+00:00" if found[3] == "Z" else found[3]
    return datetime.fromisoformat(f"{found[1]}.{(found[2] or '0')[:6].ljust(6, '0')}{zone}").astimezone(UTC)


def read(program: Rclone, *path: str) -> bytes:
    """A small file. ``NotFound``; on some remotes a file that is not there looks like an empty one."""
    data = program.run("cat", program.at(*path)).stdout
    if not data:
        raise NotFound("there is no such file", on=program.name)
    return data


@dataclass(frozen=True, slots=True)
class Claim:
    """Who writes a backup: its id, its host, when it was taken."""

    id: str
    host: str
    created: datetime

    def written(self) -> bytes:
        return encoded({"id": self.id, "host": self.host, "created_at": self.created.isoformat()}) + b"\n"


def parse_claim(data: bytes) -> Claim | None:
    """``None`` for one that is torn."""
    try:
        record = decoded(data, "claim")
        return Claim(record.text("id"), record.text("host"), record.instant("created_at"))
    except DamageFound:
        return None


def dump_names(renamed: Mapping[str, str]) -> bytes:
    """Members that are stored under other names; a path may be no text, so base64 holds it."""
    lines = [
        {"path": path.encode("utf-8", "replace").decode(), "path_base64": _safe(path), "stored": name}
        for path, name in renamed.items()
    ]
    return encoded({"renamed": lines}, indent=1) + b"\n"


def load_names(data: bytes) -> dict[str, str]:
    """Raises ``DamageFound``."""
    found: dict[str, str] = {}
    for one in decoded(data, "list of renamed members").listed("renamed"):
        record = Record(one, "list of renamed members")
        try:
            found[text_of(base64.b64decode(record.text("path_base64"), validate=True))] = record.text("stored")
        except ValueError:
            raise record.wrong("path_base64") from None
    return found


def _safe(path: str) -> str:
    return base64.b64encode(bytes_of(path)).decode()
