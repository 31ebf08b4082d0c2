"""How well a library is protected, according to the catalog."""
