"""Reads a copy back: one pass over the archive, every hash compared, a name for each kind of damage."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from typing import BinaryIO

from scriptorium.archive.encryption import Keys
from scriptorium.archive.reader import Reader
from scriptorium.archive.writer import sums_line
from scriptorium.archive.written import EndsEarly, Written
from scriptorium.errors import DamageFound, KeyMissing, NotFound, StoreUnavailable
from scriptorium.manifest import loads, without_names
from scriptorium.members import Member
from scriptorium.members.comparison import ALTERED, EXTRA, MISSING, Comparison
from scriptorium.members.ledger import LIST, MANIFEST, METADATA, OWN, SUMS
from scriptorium.model import Finding, Manifest, Verification
from scriptorium.progress import Advance

log = logging.getLogger(__name__)

MISSING_ARCHIVE = "missing archive"
MISSING_MANIFEST = "missing manifest"
TRUNCATED = "truncated"
ALTERED_MEMBER = ALTERED
ALTERED_MANIFEST = "altered manifest"
MISSING_MEMBER = MISSING
EXTRA_MEMBER = EXTRA
UNREADABLE = "unreadable archive"
WRONG_ARCHIVE = "wrong archive"
ALTERED_ARCHIVE = "altered archive"

VERDICTS = (
    MISSING_ARCHIVE,  # the manifest exists, its archive does not
    MISSING_MANIFEST,  # the archive exists, but no manifest shows that it was finished
    TRUNCATED,  # the archive ends early
    ALTERED_MEMBER,  # contents, mode, time or target of a member differ from its record
    ALTERED_MANIFEST,  # the record itself is broken, or the two in store and archive differ
    MISSING_MEMBER,  # listed, but not in the archive
    EXTRA_MEMBER,  # in the archive, but not listed
    UNREADABLE,  # cannot be decompressed, or is no tar
    WRONG_ARCHIVE,  # whole, but another backup's
    ALTERED_ARCHIVE,  # every member is right, but the bytes around them are not what was written
)

_LARGEST_OWN = 256 << 20
_LONGEST_LINE = 16 << 10


def verify_copy(
    open_archive: Callable[[], BinaryIO],
    manifest_bytes: bytes | None,
    *,
    name: str,
    size: int | None = None,
    keys: Keys | None = None,
    advance: Advance | None = None,
) -> tuple[Finding, ...]:
    """Everything that is wrong with a copy; nothing when it is sound. See ``read_back``."""
    return read_back(open_archive, manifest_bytes, name=name, size=size, keys=keys, advance=advance)[0]


def read_back(
    open_archive: Callable[[], BinaryIO],
    manifest_bytes: bytes | None,
    *,
    name: str,
    size: int | None = None,
    keys: Keys | None = None,
    advance: Advance | None = None,
) -> tuple[tuple[Finding, ...], str]:
    """Everything that is wrong with a copy, and why it could not be looked into: without its key (``keys``), only the
    encrypted bytes are compared.

    ``name``: the archive's name or key. ``size``: how long the store says it is: a stream that ends before that is the
    store's failure (``StoreUnavailable``), not damage. ``advance`` gets the number of bytes read of the archive.
    Raises ``ToolMissing`` for a manifest of a newer program, and what the store raises.
    """
    outer, findings = _outer_manifest(manifest_bytes, name)
    try:
        stream = open_archive()
    except (NotFound, FileNotFoundError):
        return (*findings, Finding(MISSING_ARCHIVE, name)), ""
    with ExitStack() as stack:
        stack.enter_context(closing(stream))
        reader = stack.enter_context(Reader(stream, keys=keys))
        comparison = stack.enter_context(closing(Comparison(outer.files if outer else None)))
        reading = _Reading(reader, comparison)
        damage = reading.run(advance)
        if reading.unopened and advance is not None:
            advance(outer.archive.bytes if outer and outer.archive else 0)
        whole = reader.stream.rest()
        if size is not None and whole.bytes < size:
            raise StoreUnavailable(f"the store sent {whole.bytes} of {size} bytes", on=name, hint="try again")
        if reading.unopened:
            findings += _encrypted_bytes(outer, whole, name)
        else:
            findings += reading.findings(outer, damage, whole, name)
    return tuple(findings), reading.unopened


def _encrypted_bytes(outer: Manifest | None, whole: Written, name: str) -> Iterator[Finding]:
    """What the bytes of an archive say that cannot be looked into."""
    record = outer.archive if outer is not None else None
    if record is None or whole == Written(record.bytes, record.sha256):
        return
    kind = TRUNCATED if whole.bytes < record.bytes else ALTERED_ARCHIVE
    yield Finding(kind, name, f"{whole.bytes} encrypted bytes, {record.bytes} were written")


def verified(
    open_archive: Callable[[], BinaryIO],
    manifest_bytes: bytes | None,
    *,
    name: str,
    size: int | None = None,
    keys: Keys | None = None,
    advance: Advance | None = None,
) -> Verification:
    """``read_back`` with its result as a record: when, how long it took, and what is wrong."""
    at, began = datetime.now(UTC).replace(microsecond=0), time.monotonic()
    findings, unopened = read_back(open_archive, manifest_bytes, name=name, size=size, keys=keys, advance=advance)
    took = time.monotonic() - began
    log.info("%s was read back in %.1f s: %s", name, took, f"{len(findings)} findings" if findings else "sound")
    if unopened:
        log.info("%s: only its encrypted bytes were compared: %s", name, unopened)
    return Verification(at, not findings, tuple(str(finding) for finding in findings), took, unopened)


def _outer_manifest(data: bytes | None, name: str) -> tuple[Manifest | None, list[Finding]]:
    """The manifest beside the archive, and what is wrong with it alone."""
    if data is None:
        return None, [Finding(MISSING_MANIFEST, name)]
    try:
        outer = loads(data)
    except DamageFound as error:
        return None, [Finding(ALTERED_MANIFEST, name, error.what)]
    if outer.archive is None:
        return outer, [Finding(ALTERED_MANIFEST, name, "it says nothing about the archive")]
    if outer.archive.name != name.rpartition("/")[2]:
        return outer, [Finding(WRONG_ARCHIVE, name, f"the manifest is that of {outer.archive.name}")]
    return outer, []


class _Reading:
    """One pass over an archive, and what it found."""

    def __init__(self, reader: Reader, comparison: Comparison) -> None:
        self._reader = reader
        self._comparison = comparison
        self.unopened = ""  # why the archive could not be looked into
        self._inner: Manifest | None = None
        self._inner_damage = ""
        self._own: dict[str, str] = {}  # our own members: name to hash
        self._sums = hashlib.sha256()
        self._listed_sums = ""
        self._listed_own: dict[str, str] = {}

    def run(self, advance: Advance | None) -> DamageFound | None:
        """Read every member; returns what stopped the reading before the end, if anything did."""
        before = 0
        try:
            for member in self._reader:
                self._member(member)
                if advance is not None and self._reader.stream.raw_bytes > before:
                    advance(self._reader.stream.raw_bytes - before)
                    before = self._reader.stream.raw_bytes
        except KeyMissing as error:
            self.unopened = error.what
        except DamageFound as error:
            return error
        return None

    def _member(self, member: Member) -> None:
        path = member.entry.path
        if path == SUMS:
            self._read_sums(member)
        elif path == MANIFEST:
            self._own_member(path, [self._read_manifest(member)])
        elif path == LIST:
            self._own_member(path, self._comparison.listing(member.chunks()))
        elif path == METADATA:
            self._own_member(path, member.chunks())
        elif member.entry.kind == "file":
            sha256 = _hash(member.chunks())
            self._sums.update(sums_line(path, sha256))
            self._comparison.member(dataclasses.replace(member.entry, sha256=sha256))
        else:
            self._comparison.member(member.entry)

    def _own_member(self, name: str, chunks: Iterator[memoryview] | list[memoryview]) -> None:
        self._own[name] = _hash(chunks)
        self._sums.update(sums_line(name, self._own[name]))

    def _read_manifest(self, member: Member) -> memoryview:
        if member.entry.size > _LARGEST_OWN:
            raise DamageFound("the manifest in the archive is impossibly large")
        data = member.contents()
        try:
            self._inner = loads(data)
        except DamageFound as error:
            self._inner_damage = error.what
        return memoryview(data)

    def _read_sums(self, member: Member) -> None:
        digest = hashlib.sha256()
        rest = b""
        for chunk in member.chunks():
            digest.update(chunk)
            *lines, rest = (rest[-_LONGEST_LINE:] + bytes(chunk)).split(b"\n")
            for line in lines:
                sha256, _, listed = line.partition(b"  ")
                if listed.decode("utf-8", "replace") in OWN:
                    self._listed_own[listed.decode()] = sha256.decode("ascii", "replace")
        self._own[SUMS] = digest.hexdigest()
        self._listed_sums = digest.hexdigest()

    def findings(
        self, outer: Manifest | None, damage: DamageFound | None, whole: Written, name: str
    ) -> Iterator[Finding]:
        """What the pass found, the cause before its consequences."""
        if outer is not None and self._inner is not None and outer.id != self._inner.id:
            detail = f"it holds backup {self._inner.id}, the manifest is that of {outer.id}"
            yield Finding(WRONG_ARCHIVE, name, detail)
            return
        record = outer.archive if outer is not None else None
        if damage is not None:
            short = record is None or whole.bytes < record.bytes
            yield Finding(TRUNCATED if short and isinstance(damage, EndsEarly) else UNREADABLE, name, damage.what)
        found = list(self._manifests(outer, damage is None))
        expected = outer or self._inner
        if expected is not None:
            found += self._comparison.findings(expected.files, whole=damage is None)
        if damage is None:
            found += self._own_members(nothing_else=not found)
        yield from found
        if record is not None and damage is None and not found and whole != Written(record.bytes, record.sha256):
            yield Finding(
                ALTERED_ARCHIVE, name, f"{whole.bytes} bytes, {record.bytes} were written; every member is right"
            )

    def _manifests(self, outer: Manifest | None, ended: bool) -> Iterator[Finding]:
        """What is wrong with the manifest in the archive, or differs from the one beside it."""
        if self._inner_damage:
            yield Finding(ALTERED_MANIFEST, MANIFEST, f"in the archive: {self._inner_damage}")
        elif self._inner is None and ended:
            yield Finding(MISSING_MEMBER, MANIFEST)
        elif self._inner is not None and outer is not None and not _same(self._inner, outer):
            yield Finding(ALTERED_MANIFEST, MANIFEST, "the one in the archive differs from the one beside it")

    def _own_members(self, *, nothing_else: bool) -> Iterator[Finding]:
        """Our own members against ``SHA256SUMS``; its other lines repeat what the manifest says."""
        missing = [name for name in (METADATA, SUMS) if name not in self._own]
        yield from (Finding(MISSING_MEMBER, name) for name in missing)
        if missing:
            return
        wrong = [name for name, sha256 in self._own.items() if name != SUMS and self._listed_own.get(name) != sha256]
        for name in wrong:
            yield Finding(ALTERED_MEMBER, name, f"{SUMS} has another hash for it")
        if nothing_else and not wrong and self._sums.hexdigest() != self._listed_sums:
            yield Finding(ALTERED_MEMBER, SUMS, "it does not fit the members")


def _same(inner: Manifest, outer: Manifest) -> bool:
    """Whether the manifest beside the archive is the one in it; beside an encrypted one it may lack names."""
    beside = dataclasses.replace(outer, archive=None)
    hidden = outer.archive is not None and outer.archive.encryption is not None
    return inner == beside or (hidden and without_names(inner) == beside)


def _hash(chunks: Iterator[memoryview] | list[memoryview]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
