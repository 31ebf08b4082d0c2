"""Stores that keep bytes under keys, and how backups lie in them."""
