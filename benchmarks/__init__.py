"""Measured ratios beside their budgets: `make bench`, or `python -m benchmarks trace textspan`."""
