"""Attention heads (chapter 2): their labels, and the effect of removing some of them."""
