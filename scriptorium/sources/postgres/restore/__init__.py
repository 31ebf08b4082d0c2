"""The way back: a dump loaded beside the living database, compared, switched in."""
