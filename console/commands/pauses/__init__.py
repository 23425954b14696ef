"""The commands `pause` and `resume`."""
