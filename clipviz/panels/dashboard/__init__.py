"""The board: its panels as one widget."""
