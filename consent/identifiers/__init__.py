"""Identifiers of people: how they are written, which of them name the same person, and how they are shown."""
