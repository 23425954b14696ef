"""Gupshup's webhook subscriptions of apps, as far as its documentation goes."""
