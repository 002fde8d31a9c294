"""The generator's desk."""
