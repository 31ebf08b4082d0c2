"""Rights that are checked before anything is done: to read other roles' large objects, to make extensions."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from scriptorium.errors import PermanentError
from scriptorium.sources.postgres.connection import Row

if TYPE_CHECKING:
    import psycopg

_SHOWN = 5
_OBJECTS = """
SELECT m.oid::int8, pg_get_userbyid(m.lomowner)::text FROM pg_largeobject_metadata m, pg_roles r
WHERE r.rolname = current_user AND NOT r.rolsuper AND current_setting('lo_compat_privileges') <> 'on'
  AND NOT {may} ORDER BY 1
"""
# From version 18 on the server has a function for it.
_ASKED = "has_largeobject_privilege(m.oid, 'SELECT')"
_RECKONED = """(pg_has_role(m.lomowner, 'USAGE') OR EXISTS (SELECT FROM aclexplode(m.lomacl) a
    WHERE a.privilege_type = 'SELECT' AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE'))))"""
# Extensions of the server that this role cannot make. A trusted one needs only the right to create in the database.
_CLOSED = """
SELECT DISTINCT v.name::text FROM pg_available_extension_versions v
JOIN pg_available_extensions e ON e.name = v.name AND e.default_version = v.version
JOIN pg_roles r ON r.rolname = current_user
WHERE v.name = ANY(%s) AND NOT r.rolsuper AND v.superuser AND NOT v.trusted ORDER BY 1
"""


def require_readable_objects(session: psycopg.Connection[Row], on: object) -> None:
    """``PermanentError`` names the large objects that this role may not read: pg_dump would fail at the first one."""
    may = _ASKED if session.info.server_version >= 180000 else _RECKONED
    rows = session.execute(_OBJECTS.format(may=may).encode()).fetchall()
    if not rows:
        return
    shown = ", ".join(f"{oid} of {owner}" for oid, owner in rows[:_SHOWN])
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    raise PermanentError(
        f"no right to read {len(rows)} large objects: {shown}{more}",
        on=str(on),
        hint="pg_read_all_data does not cover large objects: their owner may GRANT SELECT ON LARGE OBJECT … TO the "
        "role that backs up; or back up as a superuser; or set lo_compat_privileges = on for that role as a superuser",
    )


def closed_extensions(session: psycopg.Connection[Row], names: Collection[str]) -> tuple[str, ...]:
    """Those of the extensions that only a superuser can make. Extensions that the server lacks are not included."""
    return tuple(str(row[0]) for row in session.execute(_CLOSED, (sorted(names),)).fetchall())


def require_making(session: psycopg.Connection[Row], names: Collection[str], on: object) -> None:
    """``PermanentError`` if this role may not make an extension that a dump needs."""
    if closed := closed_extensions(session, names):
        raise PermanentError(
            f"the backup needs what only a superuser can make: extension {', '.join(closed)}",
            on=str(on),
            hint='restore as a superuser; a drill can have a server of its own: drill = "embedded" '
            "in the settings of the source",
        )


def extensions_in(session: psycopg.Connection[Row]) -> tuple[str, ...]:
    """The extensions of the session's database, except those that every database has."""
    return tuple(str(row[0]) for row in session.execute("SELECT extname::text FROM pg_extension WHERE oid >= 16384"))
