"""Feeds: files that come again, matched to their mapping, and rows turned into our columns by it."""
