"""Runtime: compile driver, cache, launch, oracles and verification."""
