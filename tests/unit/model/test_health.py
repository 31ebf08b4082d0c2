"""Which processes have the living data open, in words."""

from __future__ import annotations

from scriptorium.model import Holder


def test_a_process_without_a_number_here_is_in_another_container() -> None:
    assert str(Holder(0, "in another container", "/data/x.db")) == "a process in another container has /data/x.db open"
    assert str(Holder(7, "python3", "/data/x.db")) == "process 7 (python3) has /data/x.db open"
