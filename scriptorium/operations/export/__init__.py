"""Tables of a backup as CSV, JSON or Parquet, read from its store: nothing is restored, no server is needed.

``operation`` has the steps; ``tables`` finds the wanted tables, ``members`` extracts their members from the backup, the
sources read them, ``writers`` write them, ``output`` moves the files to their final path.
"""

from scriptorium.operations.export.operation import ExportPlan, export, plan_export, run_export
from scriptorium.operations.export.tables import listed
from scriptorium.operations.export.writers import FORMATS

__all__ = ["FORMATS", "ExportPlan", "export", "listed", "plan_export", "run_export"]
