"""How changes come into the ledger: from the chunks of a file, and from events."""
