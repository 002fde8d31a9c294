"""The ablation desk."""
