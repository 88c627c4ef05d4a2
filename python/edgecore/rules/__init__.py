"""State machines without I/O: update, rollout, gate, round, conflict, schedule."""
