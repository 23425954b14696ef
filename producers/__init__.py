"""From outside to the ledger: files and events become recorded changes."""
