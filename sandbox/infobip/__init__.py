"""Infobip's webhook subscriptions and its blocklist, as far as its documentation goes."""
