"""The `edgecore` command."""
