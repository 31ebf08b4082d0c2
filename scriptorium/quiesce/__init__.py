"""Pauses an application for a copy, with a watchdog that resumes it."""

from __future__ import annotations

from scriptorium.quiesce.pause import Pause, paused, snapshot

__all__ = ["Pause", "paused", "snapshot"]
