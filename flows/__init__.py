"""Prefect flows: one file an operation. A body reads as the recipe; the work is done by the core."""
