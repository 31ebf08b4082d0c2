"""Prefect flows: one file per operation. A flow runs the steps of the recipe; the work is done by the core."""
