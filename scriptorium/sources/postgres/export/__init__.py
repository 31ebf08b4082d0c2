"""Tables of a dump as rows, without a server."""
