"""Where a trial runs: Ray Train."""
