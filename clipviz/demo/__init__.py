"""The demo: a world with known answers, a CLIP trained on it, its Rosetta partners and what ships with them."""
