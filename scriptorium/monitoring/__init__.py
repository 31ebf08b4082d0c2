"""How well a library is protected, from what the catalog says."""
