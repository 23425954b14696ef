"""Until when an opt-out should have been delivered: rules as data, and what they say of a change."""
