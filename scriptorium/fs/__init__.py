"""What the core asks of a filesystem beyond what ``pathlib`` offers."""
