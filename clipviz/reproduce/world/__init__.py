"""The report card of the demo: its model, partners and generator, measured on held-out scenes whose truth is known."""
