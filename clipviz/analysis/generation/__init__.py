"""Generation guided by Rosetta neurons (thesis 4.4): guides, edits, inversion and single-concept images."""
