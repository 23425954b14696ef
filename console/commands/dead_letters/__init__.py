"""`optrelay dead-letters`: changes that could not be delivered."""
