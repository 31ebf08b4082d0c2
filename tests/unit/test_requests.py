"""Requests: read as they are typed, refused at once if they make no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from scriptorium import requests
from scriptorium.errors import UsageError
from scriptorium.requests import (
    AdoptRequest,
    BackupRequest,
    DatabaseBackupRequest,
    ExportRequest,
    PruneRequest,
    Request,
    RestoreRequest,
    VerifyRequest,
)
from scriptorium.retention import Policy
from scriptorium.words import BackupType, Compression, DatabaseFormat, ExportFormat, Tier

OURS = [one for one in vars(requests).values() if isinstance(one, type) and issubclass(one, Request)]
FIRST = {"file": "a.dump", "paths": [Path("a.zip")], "reference": "latest", "tier": "daily"}  # what has no default


def made(kind: type[Request], **more: Any) -> Request:
    needed = {name: FIRST[name] for name, field in kind.model_fields.items() if field.is_required()}
    return kind(**{**needed, **more})


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_every_request_is_frozen_and_knows_its_fields(kind: type[Request]) -> None:
    request = made(kind)
    with pytest.raises(ValidationError):
        request.library = "another"  # type: ignore[attr-defined]
    if kind is not Request:
        with pytest.raises(UsageError, match="nonsense"):
            made(kind, nonsense=1)
    assert kind(**request.parameters()) == request
    assert kind.model_validate_json(request.model_dump_json()) == request, "it is what travels over REST"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("full", BackupType.FULL),
        (" Data ", BackupType.DATA),
        ("data_only", BackupType.DATA),
        ("kuzu_only", BackupType.DATABASE),
        ("db_only", BackupType.DATABASE),
        ("config_only", BackupType.CONFIG),
        ("", None),
        (None, None),
    ],
)
def test_types_are_read_as_they_are_typed_today_and_were_before(typed: str | None, meant: BackupType | None) -> None:
    assert BackupRequest(type=typed).type is meant


def test_words_become_choices() -> None:
    request = BackupRequest(tier="Weekly", compression="zstd", to=None, name=" mine ", description=" why\n")
    assert (request.tier, request.compression, request.to) == (Tier.WEEKLY, Compression.ZSTD, ())
    assert (request.name, request.description) == ("mine", "why")
    assert ExportRequest(format="parquet").format is ExportFormat.PARQUET
    assert DatabaseBackupRequest(file="x", format="sql").format is DatabaseFormat.SQL
    assert PruneRequest(policy={"daily": 7}).policy == Policy(daily=7)
    assert PruneRequest(policy={}).policy is None, "a form that was left empty means the settings' rules"


@pytest.mark.parametrize(
    ("kind", "wrong", "message"),
    [
        (BackupRequest, {"type": "everything"}, "not a backup type"),
        (BackupRequest, {"tier": "sometimes"}, "not a tier"),
        (BackupRequest, {"compression": "rar"}, "not a compression"),
        (BackupRequest, {"name": "latest"}, "newest"),
        (BackupRequest, {"name": "a\nb"}, "one line"),
        (BackupRequest, {"to": 3}, "to"),
        (RestoreRequest, {"database": "x", "path": "/y"}, "--database"),
        (RestoreRequest, {"database": "x", "only": ["a"]}, "--database"),
        (VerifyRequest, {"share": "4/3"}, "not a share"),
        (ExportRequest, {"format": "xlsx"}, "not a format of an export"),
        (DatabaseBackupRequest, {"format": "tar"}, "not a format"),
        (DatabaseBackupRequest, {"compress": 10}, "compress"),
        (PruneRequest, {"policy": {"daily": -2}}, "daily"),
        (AdoptRequest, {"paths": []}, "paths"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(kind: type[Request], wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        made(kind, **wrong)


def test_a_request_for_a_spreadsheet_names_the_formats_it_can_open() -> None:
    with pytest.raises(UsageError) as caught:
        ExportRequest(format="xlsx")
    assert "csv, json, parquet; a spreadsheet opens csv" in caught.value.hint


def test_a_restore_is_in_place_where_it_names_no_other() -> None:
    assert RestoreRequest(reference="x").in_place and RestoreRequest(reference="x", path="").in_place
    assert not RestoreRequest(reference="x", path="/y").in_place
    assert not RestoreRequest(reference="x", database="y").in_place
