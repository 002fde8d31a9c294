"""Analyses: one computation per question, over batches, used by the session, the index and the reports alike."""
