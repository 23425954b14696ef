"""What can be asked of the ledger; nothing here changes it."""
