"""Kuzu databases."""
