"""Prefect tasks: one file a seam. A body calls one function of the core and says how it may be retried."""
