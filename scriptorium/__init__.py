"""Scriptorium: backup and restore for library applications."""

__version__ = "0.1.0"
