"""Attacks on this host's own sandbox, for its operator to run: `bichat doctor --attack`."""
