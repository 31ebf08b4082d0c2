"""Whether a database is sound: versions, indexes, checksums, structure, and the rules of its application."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from scriptorium import process
from scriptorium.errors import ToolMissing
from scriptorium.model import Finding, Health
from scriptorium.presets import DatabaseRules, rules_for
from scriptorium.presets.checks import findings
from scriptorium.sources.postgres.connection import Address, Row, sql
from scriptorium.sources.postgres.errors import translated
from scriptorium.sources.postgres.programs import find, major_of
from scriptorium.sources.postgres.statements import answers

if TYPE_CHECKING:
    import psycopg

_SHOWN = 5
_AMCHECK_SECONDS = 3600
_INVALID_INDEXES = """
SELECT n.nspname || '.' || c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT i.indisvalid OR NOT i.indisready ORDER BY 1
"""
_UNCHECKED = """
SELECT conrelid::regclass || ': ' || conname FROM pg_constraint WHERE NOT convalidated ORDER BY 1
"""
_NOT_VALID = "it holds for new rows only; ALTER TABLE … VALIDATE CONSTRAINT checks the others"
_TABLES = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'"


def check(address: Address, *, files: Path | None = None, tools: Path | None = None) -> Health:
    """Check the database at ``address``. ``files``: the folder of the library's files, which its rows are compared
    with.

    Raises ``SourceUnavailable`` or a related error when the database cannot be reached.
    """
    with address.session() as session:
        major = major_of(session.info.server_version)
        properties = {
            "database": session.info.dbname,
            "server": str(session.info.parameter_status("server_version")),
            "size": f"{_one(session, 'SELECT pg_database_size(current_database())')} bytes",
            "client": _client(major, tools),
        }
        found = [
            *(Finding("invalid index", name, "REINDEX it") for name in _column(session, _INVALID_INDEXES)),
            *(Finding("unchecked constraint", name, _NOT_VALID) for name in _column(session, _UNCHECKED)),
            *_checksums(session, properties),
            *_structure(session, address, properties, major, tools),
        ]
        rules = rules_for(_column(session, _TABLES))
        if rules is not None:
            found += _application(session, rules, files, properties)
    return Health(properties, tuple(found))


def _client(major: int, tools: Path | None) -> str:
    try:
        return str(find("pg_dump", major, tools=tools))
    except ToolMissing as error:
        return f"{error.what} ({error.on})"


def _column(session: psycopg.Connection[Row], query: str) -> list[str]:
    return [str(row[0]) for row in session.execute(sql(query))]


def _one(session: psycopg.Connection[Row], query: str) -> str:
    return _column(session, query)[0]


def _checksums(session: psycopg.Connection[Row], properties: dict[str, str]) -> Iterator[Finding]:
    properties["checksums"] = _one(session, "SHOW data_checksums")
    failures = _one(
        session, "SELECT coalesce(checksum_failures, 0) FROM pg_stat_database WHERE datname = current_database()"
    )
    if failures != "0":
        hint = f"{failures} checksum failures; restore it from a backup"
        yield Finding("damaged pages", properties["database"], hint)


def _structure(
    session: psycopg.Connection[Row], address: Address, properties: dict[str, str], major: int, tools: Path | None
) -> Iterator[Finding]:
    """Run ``pg_amcheck`` if the extension amcheck is installed. A check changes nothing, so it does not install it."""
    if not _column(session, "SELECT extname FROM pg_extension WHERE extname = 'amcheck'"):
        properties["structure"] = "not checked: CREATE EXTENSION amcheck would allow it"
        return
    try:
        program = find("pg_amcheck", max(major, 14), tools=tools)
    except ToolMissing as error:
        properties["structure"] = f"not checked: {error.what}"
        return
    argv = [program.path, "--no-password", "--no-dependent-toast", address.of(properties["database"]).plain]
    outcome = process.run(
        argv, env=address.environment(), timeout=_AMCHECK_SECONDS, secrets=address.secrets, check=False
    )  # fmt: skip
    properties["structure"] = f"checked by pg_amcheck {program.version[0]}"
    if outcome.status == 0:
        return
    lines = [line for line in outcome.stdout.decode("utf-8", "replace").splitlines() if line.strip()]
    if not lines:
        raise translated(f"pg_amcheck: {outcome.stderr}", address, secrets=address.secrets)
    for line in lines[:_SHOWN]:
        yield Finding("damaged structure", properties["database"], line.strip())


def _application(
    session: psycopg.Connection[Row], rules: DatabaseRules, files: Path | None, properties: dict[str, str]
) -> Iterator[Finding]:
    """The rules of the application: rows that belong together exist, and files are where their rows say."""
    for rule in rules.rules:
        yield from findings(rule.verdict, rule.table, _column(session, rule.query))
    if files is None:
        properties["files"] = "not compared: their folder is not known"
        return
    named = answers(session, {"files": rules.files}).get("files", ())
    properties["files"] = f"{len(named)} rows compared with {files}"
    yield from rules.compare_files(named, files)
