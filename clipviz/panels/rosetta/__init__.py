"""The dictionary of shared units."""
