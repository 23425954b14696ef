"""`optrelay status`, `history`, `backup` and `migrate`: what stands in the ledger."""
