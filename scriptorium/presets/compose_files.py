"""An application's compose files: its variables, and where folders of this machine are mounted in the container."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scriptorium.presets.surroundings import env_file, text_of

_OVERRIDES = (
    "compose.override.yaml",
    "compose.override.yml",
    "docker-compose.override.yaml",
    "docker-compose.override.yml",
)
_BASES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")  # the first one counts
_REFERENCE = re.compile(
    r"\$(?:(?P<dollar>\$)|\{(?P<braced>[A-Za-z_]\w*)(?:(?P<how>:?[-?+])(?P<more>[^}]*))?\}|(?P<plain>[A-Za-z_]\w*))"
)


@dataclass(frozen=True, slots=True)
class Compose:
    """``variables`` and ``volumes`` of the services; ``file``: the first file that was used. ``files``: all files that
    count; ``unclear``: those of them that are no YAML."""

    file: str
    variables: Mapping[str, str]
    volumes: Sequence[tuple[str, Path]]
    files: Sequence[str] = ()
    unclear: Sequence[str] = ()

    def on_host(self, inside: str) -> Path | None:
        """The path on this machine for a path of the container; ``None`` if it is not in a mounted folder."""
        for place, host in sorted(self.volumes, key=lambda volume: -len(volume[0])):
            if inside == place or inside.startswith(f"{place.rstrip('/')}/"):
                return host / inside[len(place) :].lstrip("/")
        return None


def compose(home: Path, known: Mapping[str, str], telling: Sequence[str] = ()) -> Compose:
    """Read the compose files in ``home``; overrides take precedence. ``known``: values for ``${NAME}`` in them.
    ``telling``: a service that sets one of these variables takes precedence over the others."""
    used, unclear, services = "", list[str](), dict[str, list[Mapping[str, object]]]()
    names = tuple(_names(home, known))
    for name in names:
        if not (text := text_of(home / name)).strip():
            continue
        used = used or name
        found = _services(text)
        if found is None:
            unclear.append(name)
        for service, table in (found or {}).items():
            services.setdefault(service, []).append(table)
    variables: dict[str, str] = {}
    volumes: dict[str, Path] = {}
    settings = [(_variables(home, tables, known), dict(_volumes(home, tables, known))) for tables in services.values()]
    for one, mounted in sorted(settings, key=lambda pair: not any(pair[0].get(name) for name in telling)):
        variables = {**one, **variables}
        volumes = {**mounted, **volumes}
    return Compose(used, variables, tuple(volumes.items()), names, tuple(unclear))


def _names(home: Path, known: Mapping[str, str]) -> Iterator[str]:
    """The files that count, the one with the highest precedence first."""
    if files := known.get("COMPOSE_FILE"):
        yield from reversed(files.split(known.get("COMPOSE_PATH_SEPARATOR") or ":"))
        return
    yield from _OVERRIDES
    yield from [name for name in _BASES if (home / name).exists()][:1]


def _services(text: str) -> dict[str, Mapping[str, object]] | None:
    import yaml  # type: ignore[import-untyped]  # not for every command

    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        return None
    services = document.get("services", document) if isinstance(document, dict) else None
    if not isinstance(services, dict):
        return None
    return {str(name): table for name, table in services.items() if isinstance(table, dict)}


def _variables(home: Path, files: Sequence[Mapping[str, object]], known: Mapping[str, str]) -> dict[str, str]:
    """The variables of one service: overrides take precedence, and ``environment`` over ``env_file``."""
    found: dict[str, str] = {}
    for table in files:
        found = {**dict(_pairs(table.get("environment"), known)), **found}
    for table in files:
        for file in reversed(list(_env_files(table.get("env_file")))):
            found = {**env_file(home / _filled(file, known)), **found}
    return found


def _pairs(entry: object, known: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The pairs of a mapping or a list of ``NAME=value``; a name alone gets its value from the environment."""
    pairs: list[tuple[object, object]] = []
    if isinstance(entry, dict):
        pairs = list(entry.items())
    elif isinstance(entry, list):
        pairs = [
            (name, value if equals else None) for name, equals, value in (str(one).partition("=") for one in entry)
        ]
    for name, value in pairs:
        if value is not None:
            yield str(name), _filled(str(value), known)
        elif str(name) in known:
            yield str(name), known[str(name)]


def _env_files(entry: object) -> Iterator[str]:
    for one in entry if isinstance(entry, list) else [entry]:
        path = one.get("path") if isinstance(one, dict) else one
        if isinstance(path, str):
            yield path


def _volumes(home: Path, files: Sequence[Mapping[str, object]], known: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    """The mounted folders of one service, the ones with the highest precedence last. Named volumes are left out."""
    for table in reversed(files):
        mounted = table.get("volumes")
        for one in mounted if isinstance(mounted, list) else []:
            if isinstance(one, dict):
                host, inside = str(one.get("source") or ""), str(one.get("target") or "")
            else:
                host, _, rest = _filled(str(one), known).partition(":")
                inside = rest.partition(":")[0]
            host, inside = _filled(host, known), _filled(inside, known)
            if inside.startswith("/") and host.startswith((".", "/", "~")):
                yield inside.rstrip("/"), home / Path(host).expanduser()


def _filled(text: str, known: Mapping[str, str]) -> str:
    """The text with values for ``$NAME``, ``${NAME}``, ``${NAME:-default}``. A name without value and default stays."""

    def value(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        name, how = match["braced"] or match["plain"], match["how"] or ""
        found = known.get(name)
        if "+" in how:
            return match["more"] if found else ""
        if found or (found is not None and not how.startswith(":")):
            return found
        return match["more"] if "-" in how else f"${{{name}}}"

    return _REFERENCE.sub(value, text)
