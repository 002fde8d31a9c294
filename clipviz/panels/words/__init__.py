"""The words of an image."""
