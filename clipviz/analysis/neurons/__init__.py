"""Neurons (chapter 3): second-order effects of one layer's MLP, their codes in texts, and their replacement."""
