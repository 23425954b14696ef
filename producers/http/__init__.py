"""The HTTP source: changes posted by programs, unsubscribe links clicked by people, and what became of them."""
