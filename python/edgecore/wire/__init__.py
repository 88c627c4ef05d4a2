"""Messages that device and hub share: bytes in, values out, no I/O."""
