"""Mutations of what a user is told: for every line of docs/thesis.md a change of the code that makes it false.

`python -m tests.mutations` applies each to a copy and runs the test that the line names, which has to fail.
"""
