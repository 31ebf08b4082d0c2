"""Results of drills: proofs, and what was found different."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from scriptorium import wording
from scriptorium.model import NOT_PROVEN, Check, Proof
from scriptorium.report.report import Document, Fields, Report

if TYPE_CHECKING:
    from scriptorium.results import DrillResult


def drill_report(result: DrillResult) -> Report:
    """The report on a drill: its verdict, what was compared and what was not, and each check."""
    backup, proof = result.backup, result.proof
    return Report(
        "drill",
        backup.library,
        f"Drill of {backup.name}",
        document=proof_document(proof),
        blocks=(Fields(proof_fields(proof)), Fields({"backup": f"{backup.name} ({backup.id})"}, detail=True)),
        good=proof.verdict != NOT_PROVEN,
    )


def proof_document(proof: Proof) -> Document:
    return {
        "at": proof.at.isoformat(),
        "store": proof.store,
        "proven": proof.proven,
        "verdict": proof.verdict,
        "seconds": proof.seconds,
        "age_seconds": proof.age_seconds,
        "files": proof.files,
        "bytes": proof.bytes,
        "tables": proof.tables,
        "rows": proof.rows,
        "checks": [_check_document(check) for check in proof.checks],
        "differences": list(proof.differences),
        "uncompared": list(proof.uncompared),
        "before": list(proof.before),
        "kept": not proof.unkept,
    }


def _check_document(check: Check) -> Document:
    return {"name": check.name, "good": check.good, "count": check.count, "first": list(check.first)}


def proof_fields(proof: Proof) -> Mapping[str, str]:
    """A proof as rows for people."""
    pairs = {
        "verdict": wording.verdict(proof.verdict),
        "drilled": f"{wording.utc(proof.at)} UTC, from {proof.store}",
        "time to recover": wording.duration(proof.seconds),
        "age of the data": wording.duration(proof.age_seconds),
        "compared": f"{proof.files:,} files ({wording.size(proof.bytes)}), {proof.tables} tables, {proof.rows:,} rows",
    }
    if proof.uncompared:
        pairs["not compared"] = "; ".join(proof.uncompared)
    if proof.unkept:
        pairs["not kept"] = proof.unkept
    if proof.differences:
        pairs["differences"] = "; ".join(proof.differences)
    if proof.before and proof.before != proof.differences:
        pairs["differences in the first attempt"] = "; ".join(proof.before)
    return pairs | {f"check {number}": str(check) for number, check in enumerate(proof.checks, 1)}
