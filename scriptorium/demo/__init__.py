"""Libraries to try things on: built from nothing, and kept living by a process of their own."""
