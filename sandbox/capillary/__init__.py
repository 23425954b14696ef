"""Capillary's customer subscriptions, as far as its documentation goes."""

from sandbox.capillary.desk import Capillary
from sandbox.capillary.routes import routes

__all__ = ["Capillary", "routes"]
