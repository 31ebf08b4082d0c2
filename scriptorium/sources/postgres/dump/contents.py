"""The contents of a dump, read with ``pg_restore``: whether it is complete, which sequences it contains."""

from __future__ import annotations

import gzip
import os
import re
import tarfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scriptorium import process
from scriptorium.errors import DamageFound, ToolFailed
from scriptorium.model import TableFingerprint
from scriptorium.sources.postgres.encodings import as_utf8, codec_of
from scriptorium.sources.postgres.fingerprint import sequence_fingerprint
from scriptorium.sources.postgres.programs import Program
from scriptorium.sources.postgres.toc import UnknownLayout, is_tar, read_toc

_ENTRY = re.compile(r"(\d+); (\d+) (\d+) (TABLE DATA|SEQUENCE SET|[A-Z][A-Z ]*?[A-Z]) (.*)")
_SETVAL = re.compile(r"^SELECT pg_catalog\.setval\('((?:[^']|'')*)', (-?\d+), (true|false)\);$", re.MULTILINE)
_NAME = re.compile(r'"(?:[^"]|"")*"|[^".]+')
_END_OF_DATA = b"\\.\n"


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the table of contents. ``number``: in the dump; ``oid`` and ``what``: number and kind of the object;
    ``rest``: its schema, name and owner."""

    number: int
    oid: int
    what: str
    rest: str
    line: str


def contents(dump: Path, program: Program) -> list[Entry]:
    """The table of contents. ``DamageFound`` if it cannot be read."""
    try:
        return _entries(process.run([program.path, "--list", str(dump)], timeout=600).stdout)
    except ToolFailed as error:
        raise DamageFound(f"the dump cannot be read: {error.what}", on=str(dump)) from error


def codec_of_dump(dump: Path, program: Program) -> str:
    """Python's name of the encoding of a dump's names and rows. ``DamageFound``.

    ``dump``: a folder, or a file; the beginning of a file is enough. If no entry is chosen, pg_restore writes only the
    settings of the dump.
    """
    nothing = dump.with_name(".nothing")
    nothing.write_bytes(b"")
    try:
        argv = [program.path, "--schema-only", f"--use-list={nothing}", "--file=-", str(dump)]
        return codec_of(process.run(argv, timeout=600).stdout)
    except ToolFailed as error:
        raise DamageFound(f"the dump cannot be read: {error.what}", on=str(dump)) from error
    finally:
        nothing.unlink()


def contents_of_head(head: Path, program: Program) -> list[Entry] | None:
    """The table of contents from the beginning of a dump in the custom format; ``None`` if that is too short."""
    listed = process.run([program.path, "--list", str(head)], env={"LC_ALL": "C"}, timeout=600, check=False)
    if listed.status == 0:
        return _entries(listed.stdout)
    if is_cut_off(listed.stderr):
        return None
    raise DamageFound(f"the dump cannot be read: {listed.stderr[-200:]}", on=str(head))


def is_cut_off(message: str) -> bool:
    """Whether pg_restore's message (in English) says that the dump ends too early."""
    return "end of file" in message or "too short" in message


def _entries(listed: bytes) -> list[Entry]:
    entries = []
    for line in listed.decode("utf-8", "surrogateescape").splitlines():
        match = _ENTRY.match(line)
        if match:
            entries.append(Entry(int(match[1]), int(match[3]), match[4], match[5], line))
    return entries


def check_complete(dump: Path, program: Program, tables: Iterable[int], *, level: int = 0) -> list[Entry]:
    """Check that the dump did not end early: every table has an entry and a file, and the file is complete.

    ``tables``: oids of the tables that must be in the dump; ``level``: its compression. Returns its contents.
    """
    entries = contents(dump, program)
    for entry in require_tables(entries, tables):
        file = dump / f"{entry.number}.dat{'.gz' if level else ''}"
        if not file.is_file() or (level == 0 and not _ends(file)):
            raise ToolFailed("the dump ended early: the data of a table is not complete", on=entry.rest)
    return entries


def require_tables(entries: Iterable[Entry], tables: Iterable[int]) -> list[Entry]:
    """The entries with the rows of tables. ``ToolFailed`` if one of ``tables`` (oids) has none."""
    data = {entry.oid: entry for entry in entries if entry.what == "TABLE DATA"}
    for oid in tables:
        if oid not in data:
            raise ToolFailed("the dump ended early: a table is not in it", on=f"oid {oid}")
    return list(data.values())


def require_ends(dump: Path) -> None:
    """``DamageFound`` where a folder lacks rows of a table, or a tar file its end: pg_restore loads what is there, and
    says nothing. Not looked into: what is compressed otherwise than with gzip."""
    if not dump.is_dir():
        if is_tar(dump):
            _require_end_of_tar(dump)
        return
    try:
        entries = read_toc(dump)
    except UnknownLayout:
        return  # whether it may be loaded at all is for others to say
    for entry in entries:
        if entry.what != b"TABLE DATA" or not entry.file:
            continue
        plain = dump / os.fsdecode(entry.file)
        packed = dump / f"{plain.name}.gz"
        whole = _ends(plain) if plain.is_file() else _unpacks_to_its_end(packed) if packed.is_file() else None
        if whole is False or (whole is None and not list(dump.glob(f"{plain.name}.*"))):
            name = b".".join((entry.schema, entry.name)).decode("utf-8", "replace")
            raise DamageFound(f"the rows of {name} are not complete", on=str(dump), hint="use another copy of it")


def _require_end_of_tar(dump: Path) -> None:
    end = 0
    try:
        with tarfile.open(dump, "r:") as archive:
            for member in archive:
                end = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    except tarfile.TarError:
        end = dump.stat().st_size
    if dump.stat().st_size < end + 2 * tarfile.BLOCKSIZE:
        raise DamageFound("the tar file ends early", on=str(dump), hint="use another copy of it")


def _unpacks_to_its_end(file: Path) -> bool:
    end = b""
    try:
        with gzip.open(file, "rb") as stream:
            while block := stream.read(1 << 20):
                end = (end + block)[-8:]
    except (OSError, EOFError, zlib.error):
        return False
    return _is_end(end)


def _ends(file: Path) -> bool:
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - 8))
        return _is_end(stream.read())


def _is_end(last: bytes) -> bool:
    return last.rstrip(b"\n").endswith(_END_OF_DATA.rstrip(b"\n"))


def sequence_values(
    dump: Path, program: Program, entries: Sequence[Entry]
) -> Mapping[tuple[str, str], TableFingerprint]:
    """The sequences of the dump by (schema, name), with the values that it sets."""
    chosen = [entry for entry in entries if entry.what == "SEQUENCE SET"]
    if not chosen:
        return {}
    wanted = dump.with_name(".sequences")
    wanted.write_text("\n".join(entry.line for entry in chosen) + "\n", "utf-8", "surrogateescape")
    try:
        argv = [program.path, f"--use-list={wanted}", "--file=-", str(dump)]
        script = as_utf8(process.run(argv, timeout=600).stdout).decode("utf-8", "surrogateescape")
    finally:
        wanted.unlink()
    values = {
        _names(literal.replace("''", "'")): sequence_fingerprint(int(value), called == "true")
        for literal, value, called in _SETVAL.findall(script)
    }
    if len(values) != len(chosen):
        raise ToolFailed("the dump's sequences cannot be read", on=str(dump))
    return values


def _names(text: str) -> tuple[str, str]:
    """Schema and name from a qualified name as `pg_dump` writes it, with or without quotes."""
    schema, name = _NAME.findall(text)
    return _bare(schema), _bare(name)


def _bare(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
