"""The query bar."""
