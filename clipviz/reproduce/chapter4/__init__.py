"""Chapter 4: Rosetta neurons. Matches, concepts, inversion and edits, with the demo's generator or another."""
