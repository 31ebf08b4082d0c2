"""Results of verifications: copies that were read back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scriptorium import wording
from scriptorium.report.backups import copy_document
from scriptorium.report.report import Document, Fields, Report, Row, Table

if TYPE_CHECKING:
    from scriptorium.results import Checked, VerifyResult


def verify_report(result: VerifyResult, library: str | None = None) -> Report:
    """The report on a verification: each copy with its verdict, and the copies that could not be read."""
    checked, damaged = result.checked, len(result.damaged)
    read = {"copies read": str(len(checked))}
    if unopened := [one for one in checked if one.verification.unopened]:
        read["could not be looked into"] = "; ".join(
            f"{one.backup.id} in {one.copy.store}: {one.verification.unopened}" for one in unopened
        )
    if result.unread:
        read["could not be read"] = "; ".join(f"{copy}: {error}" for copy, error in result.unread.items())
    return Report(
        "verify",
        library or "all",
        "Verification of stored copies",
        document={"checked": [checked_document(one) for one in checked], "damaged": damaged},
        blocks=(Fields(read, detail=True), Table([checked_row(one) for one in checked], right=("Size", "Took"))),
        verdict=f"{damaged} of {len(checked)} copies are damaged" if damaged else _sound(checked),
        good=not damaged and not result.unread,
    )


def _sound(checked: Sequence[Checked]) -> str:
    verdict = ", ".join(sorted({one.verdict for one in checked})) or "sound"
    return f"{len(checked)} cop{'y is' if len(checked) == 1 else 'ies are'} {verdict}"


def checked_document(one: Checked) -> Document:
    """A copy that was read back."""
    known = str(one.copy.status) if one.share else "verified"  # a sound share does not prove the rest
    return {
        "id": one.backup.id,
        **copy_document(one.copy),
        **({"share": one.share} if one.share else {}),
        **({"locked": one.lock} if one.lock else {}),
        "status": known if one.verification.sound else "damaged",
        "sound": one.verification.sound,
        "damage": list(one.verification.damage),
        **({"unopened": one.verification.unopened} if one.verification.unopened else {}),
        "seconds": round(one.verification.seconds, 3),
        "verified_at": one.verification.at.isoformat(),
    }


def checked_row(one: Checked) -> Row:
    return {
        "ID": one.backup.id,
        "Name": one.backup.name,
        "Store": one.copy.store,
        "Size": wording.size(one.copy.bytes),
        "Took": wording.duration(one.verification.seconds),
        "Verdict": f"{one.verdict}{one.locked}" if one.verification.sound else tuple(one.verification.damage[:10]),
    }
