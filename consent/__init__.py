"""The vocabulary of consent changes and the ledger that keeps them."""
