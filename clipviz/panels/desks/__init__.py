"""The row of desks."""
