"""Prefect tasks: each calls one function of the core, and declares whether it is retried."""
