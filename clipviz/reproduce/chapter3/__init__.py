"""Chapter 3: neurons. Layers, texts, segmentation and adversarial images."""
