"""Published systems: what belongs to one of them alone."""
