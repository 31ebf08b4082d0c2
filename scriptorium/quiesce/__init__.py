"""An application made to stand still for a copy, and its watchdog."""

from __future__ import annotations

from scriptorium.quiesce.pause import Pause, paused, snapshot

__all__ = ["Pause", "paused", "snapshot"]
