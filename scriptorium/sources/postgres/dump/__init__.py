"""The way out: one snapshot, its dump, its fingerprints."""
