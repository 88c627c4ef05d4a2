"""The agent: the shell of the device side."""
