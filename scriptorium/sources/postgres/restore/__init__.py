"""How a database is restored: its dump is loaded beside the living database, compared, switched in."""
