"""Guards: what holds a file as a whole until a person approves it."""
