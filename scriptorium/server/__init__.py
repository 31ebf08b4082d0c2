"""Prefect's API as a child process of ours, and the history of runs that it keeps."""
