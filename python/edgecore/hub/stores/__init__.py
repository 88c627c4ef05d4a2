"""Embedded stores of the hub: event packs with a block index, and the registry."""
