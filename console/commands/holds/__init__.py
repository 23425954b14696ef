"""The commands about imports that a guard holds."""
