"""The grid of heads."""
