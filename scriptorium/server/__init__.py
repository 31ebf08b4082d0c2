"""Prefect's API as a child process of ours, and what it remembers of a run."""
