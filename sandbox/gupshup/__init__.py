"""Gupshup's webhook subscriptions of apps, as far as its documentation goes."""

from sandbox.gupshup.routes import routes
from sandbox.gupshup.service import Gupshup

__all__ = ["Gupshup", "routes"]
