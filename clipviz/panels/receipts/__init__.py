"""The receipts strip."""
