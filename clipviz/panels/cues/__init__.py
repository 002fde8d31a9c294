"""The cues' desk."""
