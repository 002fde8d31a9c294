"""Chapter 2: attention heads. Ablations, texts, neighbours, segmentation and shortcuts."""
