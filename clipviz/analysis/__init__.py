"""Analyses: one computation per question, in batches, shared by sessions, indexes and reports."""
