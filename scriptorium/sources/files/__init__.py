"""Trees of files and single files."""
