"""An encrypted store as its commands are typed: through Prefect, with and without the key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from age_keys import new_key

Scriptorium = Callable[..., Any]


def test_a_host_without_the_key_takes_backups_and_one_with_it_proves_them(scriptorium: Scriptorium, place: Any) -> None:
    recipient = new_key(place.folder / "key.txt")
    settings = place.config.read_text() + f'[stores.local.age]\nrecipients = ["{recipient}"]\n'
    place.config.write_text(settings)
    made = scriptorium("create", "--type", "config", "--json")
    assert made.code == 0 and made.document["copies"][0]["key"].endswith(".tar.gz.age"), made.err
    drilled = scriptorium("drill", made.document["id"])
    assert drilled.code == 1 and recipient in drilled.err and "host that has the key" in drilled.err
    place.config.write_text(settings + 'identity = "key.txt"\n')
    drilled = scriptorium("drill", made.document["id"], "--json")
    assert drilled.code == 0, drilled.err
