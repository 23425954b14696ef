"""The doors for people: the optrelay command."""
