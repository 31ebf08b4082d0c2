"""A flow's parameters are the fields of its request: by name, type, default and order; its form shows the choices."""

from __future__ import annotations

import inspect
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.utilities.callables import parameter_schema

from flows.backup import backup
from flows.copy import copy
from flows.database import database_backup, database_restore
from flows.drill import drill, drill_all
from flows.export import export
from flows.prune import prune
from flows.restore import restore, undo
from flows.tier import tier
from flows.verify import verify
from scriptorium import requests
from scriptorium.requests import Request
from scriptorium.words import BackupType, Compression, DatabaseFormat, ExportFormat, Tier

FLOWS: dict[Flow[..., Any], type[Request]] = {
    backup: requests.BackupRequest,
    tier: requests.TierRequest,
    restore: requests.RestoreRequest,
    undo: requests.UndoRequest,
    drill: requests.DrillRequest,
    drill_all: requests.DrillAllRequest,
    verify: requests.VerifyRequest,
    copy: requests.CopyRequest,
    prune: requests.PruneRequest,
    export: requests.ExportRequest,
    database_backup: requests.DatabaseBackupRequest,
    database_restore: requests.DatabaseRestoreRequest,
}
MISSING = inspect.Parameter.empty


WITHOUT_FLOW = {requests.AdoptRequest, requests.DeleteRequest, requests.PinRequest}  # they are done at once


def test_every_request_has_its_flow() -> None:
    ours = {one for one in vars(requests).values() if isinstance(one, type) and issubclass(one, Request)}
    assert ours - {Request} - WITHOUT_FLOW == set(FLOWS.values())


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_the_parameters_of_a_flow_are_the_fields_of_its_request(flow: Flow[..., Any]) -> None:
    model = FLOWS[flow]
    hints = typing.get_type_hints(flow.fn, include_extras=True)
    fields = typing.get_type_hints(model, include_extras=True)
    parameters = inspect.signature(flow.fn).parameters
    asked = [(name, hints[name], parameter.default) for name, parameter in parameters.items()]
    assert asked == [
        (name, fields[name], MISSING if field.is_required() else field.default)
        for name, field in model.model_fields.items()
    ]


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_every_parameter_is_explained_in_the_form(flow: Flow[..., Any]) -> None:
    properties = parameter_schema(flow).properties
    assert [name for name, one in properties.items() if not one.get("description")] == []


@pytest.mark.parametrize(
    ("flow", "parameter", "word"),
    [
        (backup, "type", BackupType),
        (backup, "tier", Tier),
        (backup, "compression", Compression),
        (tier, "tier", Tier),
        (export, "format", ExportFormat),
        (database_backup, "format", DatabaseFormat),
    ],
)
def test_the_form_shows_the_choices(flow: Flow[..., Any], parameter: str, word: Any) -> None:
    schema = parameter_schema(flow)
    shown = schema.properties[parameter]
    schemas = [shown, *shown.get("anyOf", ()), *shown.get("allOf", ())]
    (name,) = [one["$ref"].rpartition("/")[2] for one in schemas if "$ref" in one]
    assert schema.definitions[name]["enum"] == [str(one) for one in word]


def test_the_words_of_earlier_times_are_not_refused_by_the_api() -> None:
    """The schema has only the current words; the flow itself refuses words that it does not know."""
    file = yaml.safe_load((Path(__file__).parents[2] / "prefect.yaml").read_text())
    (manual,) = [one for one in file["deployments"] if one["entrypoint"] == "flows.backup:backup"]
    assert manual["enforce_parameter_schema"] is False
