"""The operations page: what `optrelay ui` opens, and what `optrelay serve` shows to its users."""
