"""Campaigns of hostile input: many random attempts, each of which must end in the right answer or a clear error.

A module here has CAMPAIGNS, name -> function of (attempts, seed) that returns a Tally. `python -m tests.hostile` runs
them all at length and prints what was tried; the test suite runs each briefly.
"""
