"""The seeded world that tests run in; public, for users' own chaos tests."""
