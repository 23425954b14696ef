"""Infobip's webhook subscriptions and its blocklist, as far as its documentation goes."""

from sandbox.infobip.routes import routes
from sandbox.infobip.service import Infobip

__all__ = ["Infobip", "routes"]
