"""Gupshup's webhook subscriptions of apps, as far as its documentation goes."""

from sandbox.gupshup.desk import Gupshup
from sandbox.gupshup.routes import routes

__all__ = ["Gupshup", "routes"]
