"""The ledger: every change and what became of it, the only truth."""
