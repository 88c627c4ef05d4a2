"""Keys, signatures and verdicts on metadata: pure functions of stored state, bytes and time."""
