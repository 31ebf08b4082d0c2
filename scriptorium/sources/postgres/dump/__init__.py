"""How a database is saved: one snapshot, its dump, its fingerprints."""
