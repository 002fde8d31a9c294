"""The heatmap."""
