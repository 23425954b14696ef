"""What differs between the databases that a ledger can stand in."""
