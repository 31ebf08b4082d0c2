"""Tables of a backup as CSV, JSON or Parquet, straight from its store: nothing is restored, no server is needed.

``operation`` has the steps; ``tables`` says which are meant, ``members`` takes them out of the backup, ``kuzu_tables``
and ``postgres_tables`` read them, ``writers`` (with ``values``) write them, ``output`` puts them in their place.
"""

from scriptorium.operations.export.operation import ExportPlan, export, plan_export, run_export
from scriptorium.operations.export.tables import listed
from scriptorium.operations.export.writers import FORMATS

__all__ = ["FORMATS", "ExportPlan", "export", "listed", "plan_export", "run_export"]
