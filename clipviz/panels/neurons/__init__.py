"""The neurons' desk."""
