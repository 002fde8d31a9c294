"""Attention heads (chapter 2): their labels, and what is left when some of them are removed."""
