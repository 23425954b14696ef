"""What a person types and sees: the optrelay command."""
