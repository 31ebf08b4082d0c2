"""The roles, tablespaces and extensions that a dump needs on the server, and which of them are missing."""

from __future__ import annotations

import contextlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from scriptorium import process
from scriptorium.errors import PermanentError
from scriptorium.sources.postgres.connection import Address, Row
from scriptorium.sources.postgres.encodings import codec_of, redecoded
from scriptorium.sources.postgres.programs import Program
from scriptorium.sources.postgres.rights import extensions_in, require_making

if TYPE_CHECKING:
    import psycopg

_IDENTIFIER = r'"(?:[^"]|"")*"|[\w$]+'
_HEADER = re.compile(
    r"^-- (?:Data for )?Name: (?P<name>.*); Type: (?P<kind>[A-Z ]+); Schema: (?P<schema>.*?); Owner: (?P<owner>.*?)"
    r"(?:; Tablespace: (?P<tablespace>.*))?$"
)
_QUOTES = re.compile(r"\$(?:[A-Za-z_]\w*)?\$")
_NOT_WITHOUT = ("CREATE POLICY ", "CREATE USER MAPPING ")
_GRANT = re.compile(
    rf"^(?:GRANT|REVOKE|ALTER DEFAULT PRIVILEGES) .*?(?:TO|FROM) ({_IDENTIFIER})(?: WITH GRANT OPTION)?;$"
)
_FOR_ROLE = re.compile(rf"^ALTER DEFAULT PRIVILEGES FOR ROLE ({_IDENTIFIER}) ")
_OWNER = re.compile(rf"^ALTER .* OWNER TO ({_IDENTIFIER});$")
# A policy without TO is for everybody. Names of policies and tables may contain any word, so the whole line is parsed.
_ON_TABLE = rf"POLICY (?P<policy>(?:{_IDENTIFIER}) ON (?:{_IDENTIFIER})(?:\.(?:{_IDENTIFIER}))?)"
_POLICY = re.compile(
    rf"^CREATE {_ON_TABLE}(?: AS \w+)?(?: FOR \w+)? TO (?P<roles>(?:{_IDENTIFIER})(?:, (?:{_IDENTIFIER}))*)"
)
_COMMENT = re.compile(rf"^COMMENT ON {_ON_TABLE} IS ")  # pg_dump writes it after the policy
_MAPPING = re.compile(rf"^CREATE USER MAPPING FOR ({_IDENTIFIER}) SERVER ")
_TABLESPACE = re.compile(rf"^SET default_tablespace = ({_IDENTIFIER});$")
_EXTENSION = re.compile(rf"^CREATE EXTENSION IF NOT EXISTS ({_IDENTIFIER}) ")
_ROLE_SETTING = re.compile(rf"^ALTER ROLE ({_IDENTIFIER}) IN DATABASE ")
# As bytes, which are not converted: a name is in the encoding of the database in which it was given.
_ROLES = r"""
SELECT encode(CASE WHEN rolname::text LIKE '%\\%' THEN textsend(rolname::text) ELSE rolname::text::bytea END, 'hex')
FROM pg_roles
"""
_EVERYBODY = {"public", "session_user", "current_user", "current_role", ""}


@dataclass(frozen=True, slots=True)
class Requirements:
    """Names that a dump uses; as the result of ``missing``: those that the server does not have.

    ``named``: by role, the entries of the dump that cannot be made without it (policies, their comments, user
    mappings), written as in the table of contents: kind, schema and name. ``codec``: the dump's encoding.
    """

    roles: frozenset[str] = frozenset()
    tablespaces: frozenset[str] = frozenset()
    extensions: frozenset[str] = frozenset()
    named: Mapping[str, frozenset[str]] = field(default_factory=dict)
    codec: str = "utf-8"

    def __bool__(self) -> bool:
        return bool(self.roles or self.tablespaces or self.extensions)

    def __str__(self) -> str:
        kinds = (("role", self.roles), ("tablespace", self.tablespaces), ("extension", self.extensions))
        text = "; ".join(f"{kind} {', '.join(sorted(names))}" for kind, names in kinds if names)
        return text.encode("utf-8", "replace").decode()

    @property
    def switches(self) -> tuple[str, ...]:
        """Switches with which pg_restore does not need these."""
        owners = ("--no-owner", "--no-privileges") if self.roles else ()
        return (*owners, *(("--no-tablespaces",) if self.tablespaces else ()))

    @property
    def left_out(self) -> frozenset[str]:
        """Entries that are not restored if these are missing. A missing policy hides rows, it does not show more."""
        return frozenset(entry for role in self.roles for entry in self.named.get(role, ()))


def required(dump: Path, program: Program, *, itself: bool = False) -> Requirements:
    """Read them from the dump's schema, as ``pg_restore`` writes it. ``itself``: with the properties of the
    database."""
    roles, tablespaces, extensions = set[str](), set[str](), set[str]()
    named = defaultdict[str, set[str]](set)
    policies = dict[str, list[str]]()  # the roles of each
    entry, body, codec = "", "", "utf-8"
    create = ["--create"] if itself else []
    with process.stream([program.path, *create, "--schema-only", "--file=-", str(dump)]) as script:
        for raw in script:
            line = raw.decode("utf-8", "surrogateescape").rstrip("\n")
            if raw.startswith(b"SET client_encoding"):
                codec = codec_of(raw)
            if body:  # a function may contain any words
                body = "" if body in line else body
                continue
            header = _HEADER.match(line)
            if header:
                entry = f"{header['kind']} {header['schema']} {header['name']}"
                roles.add("" if header["owner"] == "-" else redecoded(header["owner"], codec))
                tablespaces.add(redecoded(header["tablespace"] or "", codec))
            for kind, found in ((kind, redecoded(found, codec)) for kind, found in _names_in(line)):
                {"role": roles, "tablespace": tablespaces, "extension": extensions}[kind].add(found)
                if kind == "role" and line.startswith(_NOT_WITHOUT):
                    named[found].add(entry)
            if policy := _POLICY.match(line):
                policies[policy["policy"]] = [redecoded(role, codec) for role in _all_bare(policy["roles"])]
            elif comment := _COMMENT.match(line):
                for role in policies.get(comment["policy"], ()):
                    named[role].add(entry)
            quotes = _QUOTES.findall(line)
            body = quotes[-1] if len(quotes) % 2 else ""
    entries = {role: frozenset(found) for role, found in named.items()}
    return Requirements(
        frozenset(roles - _EVERYBODY), frozenset(tablespaces - {""}), frozenset(extensions), entries, codec
    )


def _names_in(line: str) -> Iterator[tuple[str, str]]:
    for kind, pattern in (
        ("role", _GRANT),
        ("role", _FOR_ROLE),
        ("role", _OWNER),
        ("role", _MAPPING),
        ("role", _ROLE_SETTING),
        ("tablespace", _TABLESPACE),
        ("extension", _EXTENSION),
    ):
        match = pattern.match(line)
        if match:
            yield kind, bare(match[1]) if match[1].lower() not in _EVERYBODY else ""
    if policy := _POLICY.match(line):
        yield from (("role", name) for name in _all_bare(policy["roles"]))


def _all_bare(identifiers: str) -> list[str]:
    return [bare(name) for name in re.findall(_IDENTIFIER, identifiers)]


def bare(identifier: str) -> str:
    """An identifier without its quotes; unquoted ones are lower case."""
    return identifier[1:-1].replace('""', '"') if identifier.startswith('"') else identifier.lower()


def missing(session: psycopg.Connection[Row], needed: Requirements) -> Requirements:
    """The requirements that the server of ``session`` does not meet."""

    def there(query: str) -> set[str]:
        return {str(row[0]) for row in session.execute(query.encode())}

    roles = {bytes.fromhex(name) for name in there(_ROLES)}
    return Requirements(
        frozenset(name for name in needed.roles if not roles & _written(name, needed.codec)),
        needed.tablespaces - there("SELECT spcname FROM pg_tablespace") - {"pg_default"},
        needed.extensions - there("SELECT name FROM pg_available_extensions"),
        needed.named,
        needed.codec,
    )


def _written(name: str, codec: str) -> set[bytes]:
    """The name as the server may store it: in the encoding of the dump's database, or in UTF-8."""
    found = set[bytes]()
    for one in (codec, "utf-8"):
        with contextlib.suppress(UnicodeEncodeError):
            found.add(name.encode(one, "surrogateescape"))
    return found


def require(session: psycopg.Connection[Row], needed: Requirements, address: Address, *, without: bool) -> Requirements:
    """Return the missing ones if the restore may continue ``without`` them; else ``PermanentError`` names them. A
    missing extension always is an error: tables have columns of its types, and functions call its functions."""
    lacking = missing(session, needed)
    if lacking.extensions or (lacking and not without):
        made = "make them (globals.sql in the backup has roles and tablespaces), or restore with without_roles"
        packages = "install their packages on the server (postgresql-contrib has the usual extensions)"
        hints = [*([made] if lacking.roles or lacking.tablespaces else []), *([packages] if lacking.extensions else [])]
        raise PermanentError(
            f"the server lacks what the backup needs: {lacking}", on=str(address), hint="; ".join(hints)
        )
    there = extensions_in(session) if session.info.dbname == address.words.get("dbname") else ()
    require_making(session, needed.extensions - lacking.extensions - set(there), address)
    return lacking
