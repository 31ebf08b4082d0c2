"""The errors of wrong settings: the key, what is wrong, what is allowed. Never the value: it may be a secret."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from scriptorium import limits
from scriptorium.settings.models import Settings
from scriptorium.stores import KINDS, AnyStore, kind_of

Step = int | str
_MOST = 5
_FORMS = {
    limits.PATTERN: "this pattern matches nothing",
    limits.WORD: "this word contains a NUL",
    limits.NAME: "a name has letters, digits, '.', '_' and '-', and begins with a letter or digit",
    limits.SOURCE_NAME: "a name has letters, digits, '.', '_' and '-', and begins with a letter, a digit or '_'",
}


def complaint(error: ValidationError, raw: Mapping[str, object] | None = None) -> str:
    """Every problem, in one line. ``raw``: what was parsed; it says of which kind a store is."""
    lines = []
    problems = error.errors(include_url=False, include_input=False)
    for problem in problems:
        place = problem["loc"]
        if problem["type"] == "too_short" and any(place == other["loc"][: len(place)] for other in problems[:-1]):
            continue  # the list only seems empty, because its entries are wrong
        problem_text = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            problem_text = f"unknown key; known: {', '.join(sorted(_known(place[:-1], raw or {})))}"
        elif problem["type"] == "union_tag_not_found":
            problem_text = f"'kind' is missing; one of: {', '.join(sorted(_kinds(place)))}"
        elif problem["type"] == "string_pattern_mismatch":
            problem_text = _FORMS.get(problem["ctx"]["pattern"], problem_text)
        where = ".".join(_short(str(step), 60) for step in place if step != "[key]")
        lines.append(f"{where}: {_short(problem_text, 500)}" if where else _short(problem_text, 500))
    more = f"; and {len(lines) - _MOST} more" if len(lines) > _MOST else ""
    return "; ".join(lines[:_MOST]) + more


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def _known(place: tuple[Step, ...], raw: Mapping[str, object]) -> Iterator[str]:
    """The keys that a table may have."""
    store = _store_at(place, raw)
    for model in [store] if store is not None else _models_at(place):
        silent = () if "sources" in place else ("name", "origin")  # the heading gives the name, we set the origin
        yield from (name for name in model.model_fields if name not in silent)


def _store_at(place: tuple[Step, ...], raw: Mapping[str, object]) -> type[BaseModel] | None:
    """The model of a store's own table, which names its kind."""
    stores = raw.get("stores")
    table = stores.get(place[1]) if len(place) == 2 and place[0] == "stores" and isinstance(stores, dict) else None
    return kind_of(table) if isinstance(table, dict) else None


def _kinds(place: tuple[Step, ...]) -> Iterator[str]:
    for model in _models_at(place):
        yield str(model.model_fields["kind"].default)


def _models_at(place: tuple[Step, ...]) -> Iterator[type[BaseModel]]:
    annotations: list[object] = [Settings]
    for step in place:
        annotations = [below for annotation in annotations for below in _below(annotation, step)]
    for annotation in annotations:
        yield from _models(annotation)


def _below(annotation: object, step: Step) -> Iterator[object]:
    """The types to which one step of an error's location leads: a field, an entry, or a member of a union."""
    if annotation == AnyStore:
        for kind in KINDS.values():
            yield from _below(kind, step)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if step in annotation.model_fields:
            yield annotation.model_fields[str(step)].annotation
        elif "kind" in annotation.model_fields and step == annotation.model_fields["kind"].default:
            yield annotation
    elif get_origin(annotation) is Mapping or isinstance(step, int):
        yield get_args(annotation)[-1 if get_origin(annotation) is not tuple else 0]
    elif get_origin(annotation) is not Literal:
        for part in get_args(annotation):
            yield from _below(part, step)


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if annotation == AnyStore:
        yield from KINDS.values()
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is not Literal:
        for part in get_args(annotation):
            yield from _models(part)
