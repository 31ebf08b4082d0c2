"""Settings: one TOML file and the environment, parsed into frozen objects that are ready to work.

The first of these that has a value wins: ``SCRIPTORIUM__SECTION__KEY`` variables, the settings file, the variables
that the applications' users know (``BIBLIOTHECA_BACKUP_DIR`` and friends), defaults. Unknown keys are errors. This
package is the only reader of the environment. It is pydantic without pydantic-settings, whose import alone would cost
the inspecting commands most of their half second (docs/decisions/0001).

``models`` has the settings as objects, ``finding`` finds and reads them, ``raw`` prepares tables for the models,
``complaints`` words the errors.
"""

from __future__ import annotations

from scriptorium.settings.finding import (
    CONFIG_VARIABLE,
    FILE_NAME,
    again,
    choose_file,
    current,
    find_file,
    load,
    set_defaults,
    use,
)
from scriptorium.settings.models import HealthCheck, Library, PruneAfter, Settings, TierSettings

__all__ = [
    "CONFIG_VARIABLE",
    "FILE_NAME",
    "HealthCheck",
    "Library",
    "PruneAfter",
    "Settings",
    "TierSettings",
    "again",
    "choose_file",
    "current",
    "find_file",
    "load",
    "set_defaults",
    "use",
]
