"""Errors keep their fields: across processes, and where others read them."""

from __future__ import annotations

import pickle

import pytest

from scriptorium.errors import DamageFound, NotFound, ScriptoriumError, ToolFailed
from scriptorium.sources.postgres.restore.constraints import EntriesFailed


@pytest.mark.parametrize(
    "error",
    [
        NotFound("there is no such backup", on="3f2a", hint="scriptorium list"),
        DamageFound("2 members differ", findings=["a: other content", "b; c: missing"]),
        DamageFound("the archive is damaged", on="x.tar", hint="use another copy", findings=["a: missing"]),
        ToolFailed("pg_dump failed", hint="its last words", status=-9),
        EntriesFailed("pg_restore failed", on="db", entries=frozenset({3, 7})),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_comes_whole_out_of_another_process(error: ScriptoriumError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and vars(again) == vars(error) and str(again) == str(error)


def test_the_findings_are_the_hint_where_there_is_no_other() -> None:
    assert DamageFound("damaged", findings=["a: missing", "b: missing"]).hint == "a: missing; b: missing"
    assert DamageFound("damaged", hint="use another copy", findings=["a: missing"]).hint == "use another copy"
