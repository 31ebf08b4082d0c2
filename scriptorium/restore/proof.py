"""Compare restored data with the records of the backup, and with the rules that a library of its kind must fulfil."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from scriptorium.model import Check, FileEntry, Finding, Part, Rows, Staged, TableFingerprint
from scriptorium.presets import Answers, Held, preset

_NONE: Mapping[str, str] = MappingProxyType({})


def fulfilled(
    preset_name: str | None, answers: Answers, entries: Iterable[FileEntry], parts: Iterable[Part | Staged]
) -> tuple[Check, ...]:
    """The results of the preset's checks of the databases' answers and the files; none without a preset.

    The parts say which files a backup should contain: the entries alone cannot tell an emptied folder from one that the
    backup's type leaves out.
    """
    if preset_name is None or not answers:
        return ()
    places = frozenset(part.path for part in parts if part.plain_files)
    return preset(preset_name).checks(answers, _held(entries), places)


def _held(entries: Iterable[FileEntry]) -> dict[str, Held]:
    """The files by their paths, links included. A link whose target is not in the backup does not count, because its
    contents are not restored."""
    files: dict[str, Held] = {}
    links: dict[str, str] = {}
    for entry in entries:
        if entry.kind == "file":
            files[entry.path] = Held(entry.size, entry.sha256)
        elif entry.kind == "hardlink" and entry.target in files:
            files[entry.path] = files[entry.target]
        elif entry.kind == "symlink":
            links[entry.path] = entry.target or ""
    files.update({path: files[end] for path in links if (end := _end_of(path, links)) in files})
    return files


def _end_of(path: str, links: Mapping[str, str]) -> str:
    """The path that a link finally leads to, through other links; for a loop one of its links."""
    passed: set[str] = set()
    while path in links and path not in passed:
        passed.add(path)
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), links[path]))
    return path


def missing_files(preset_name: str | None, found: Iterable[Check]) -> tuple[Check, ...]:
    """The failed checks that found files which the database names and the backup lacks."""
    names = preset(preset_name).missing if preset_name else frozenset[str]()
    return tuple(check for check in found if not check.good and check.name in names)


def all_answers(answers: Iterable[Mapping[str, Rows]]) -> dict[str, Rows]:
    """The answers of every source of a library; a preset gives its statements different names."""
    return {name: rows for one in answers for name, rows in one.items()}


def compare_tables(
    part: Part, found: Mapping[str, TableFingerprint] | None, missing: Mapping[str, str] = _NONE
) -> tuple[Finding, ...]:
    """Every difference between the fingerprints in the manifest and those of the restored database.

    An adopted dump has no fingerprints. A table cannot be compared if it has no recorded fingerprint, or none now
    (``missing``, as in ``Part``): ``uncompared`` names both.
    """
    if found is None or part.tables is None:
        return ()
    without = part.missing_fingerprints.keys() | missing.keys()
    if "" in without:
        return ()
    expected = part.tables
    findings = []
    for table in sorted((expected.keys() | found.keys()) - without):
        was, now = expected.get(table), found.get(table)
        if was is None:
            findings.append(Finding("extra table", table))
        elif now is None:
            findings.append(Finding("missing table", table))
        elif was.rows != now.rows:
            findings.append(Finding("different rows", table, f"{now.rows} instead of {was.rows}"))
        elif was.fingerprint != now.fingerprint:
            findings.append(Finding("different content", table))
    return tuple(findings)


def compare_checks(then: Iterable[Check], now: Iterable[Check]) -> tuple[Finding, ...]:
    """The checks that fail in more cases after the restore than when the backup was taken.

    A fault of the library itself is no fault of its backup: it was reported when the backup was taken. A check that was
    not made then (an earlier Scriptorium did not have it, or the dump was adopted) cannot be compared. The proof
    contains its result, and the contents are compared in any case.
    """
    before = {check.name: check for check in then}
    return tuple(
        Finding("worse than it was", str(check))
        for check in now
        if not check.good and check.name in before and before[check.name].count < check.count
    )
