"""The texts of a head."""
