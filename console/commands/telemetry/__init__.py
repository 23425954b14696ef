"""Metrics, for those who watch from outside."""
