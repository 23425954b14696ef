"""Capillary's customer subscriptions, as far as its documentation goes."""
