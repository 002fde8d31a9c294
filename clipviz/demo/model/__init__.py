"""The model of the demo world: its weights, its training and its evaluation."""
