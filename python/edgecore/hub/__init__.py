"""The hub: what a fleet reconciles with."""
