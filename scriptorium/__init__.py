"""Scriptorium: backup and restore for library applications."""

import logging

__version__ = "0.1.0"

# Who calls the core decides where its log lines go: without a handler, Python would print warnings on standard error.
logging.getLogger(__name__).addHandler(logging.NullHandler())
