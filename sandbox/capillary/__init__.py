"""Capillary's customer subscriptions, as far as its documentation goes."""

from sandbox.capillary.routes import routes
from sandbox.capillary.service import Capillary

__all__ = ["Capillary", "routes"]
