"""A run whose work was done counts, also if its end could not be reported (tests/faults/test_prefect_gone.py)."""

from __future__ import annotations

import inspect
import re
import typing

import httpx
import pytest

from scriptorium.cli.run_flow import carried_out
from scriptorium.errors import DamageFound, ToolMissing


class Flow:
    """A flow as the command line sees it: ``fn`` is the body, the call surrounds it with reports."""

    def __init__(self, body, *, after: Exception | None = None, before: Exception | None = None) -> None:
        self.fn = body
        self._before, self._after = before, after

    def __call__(self, *arguments, **given):
        if self._before:
            raise self._before
        done = self.fn(*arguments, **given)
        if self._after:
            raise self._after
        return done


def fails(*_: object) -> None:
    raise DamageFound("the copy is damaged")


def test_work_that_was_done_counts_when_its_report_failed(capsys: pytest.CaptureFixture[str]) -> None:
    assert carried_out(Flow(lambda number: number + 1, after=ConnectionError("gone")), 1) == 2
    assert "could not be reported to Prefect (ConnectionError)" in capsys.readouterr().err


def test_a_run_that_never_began_is_an_error() -> None:
    with pytest.raises(ConnectionError):
        carried_out(Flow(lambda: 1, before=ConnectionError("no server")))


@pytest.mark.parametrize(("status", "message"), [(401, "another password"), (403, "another password"), (503, "(503)")])
def test_an_api_that_refuses_or_fails_is_reported_as_such(status: int, message: str) -> None:
    from prefect.exceptions import PrefectHTTPStatusError

    request = httpx.Request("POST", "http://127.0.0.1:1/api/flows/")
    error = PrefectHTTPStatusError("no", request=request, response=httpx.Response(status, request=request))
    with pytest.raises(ToolMissing, match=re.escape(message)):
        carried_out(Flow(lambda: 1, before=error))


def test_the_error_of_the_work_itself_is_the_users() -> None:
    with pytest.raises(DamageFound):
        carried_out(Flow(fails))


def test_a_success_prints_nothing_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert carried_out(Flow(lambda *, text: text), text="fine") == "fine"
    assert not capsys.readouterr().err


def test_the_types_of_a_flow_are_read_where_it_is_defined() -> None:
    """Prefect makes a model of the parameters: their types are names of the flow's own module."""
    from flows.backup import backup

    seen: dict[str, object] = {}

    class Asked(Flow):
        def __call__(self, *arguments, **given):
            seen.update({name: one.annotation for name, one in inspect.signature(self.fn).parameters.items()})

    carried_out(Asked(backup.fn))
    types = typing.get_type_hints(backup.fn, include_extras=True)
    assert seen == {name: types[name] for name in seen} and seen
