"""The desk of spurious cues."""
