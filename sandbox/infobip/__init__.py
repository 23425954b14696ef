"""Infobip's webhook subscriptions and its blocklist, as far as its documentation goes."""

from sandbox.infobip.desk import Infobip
from sandbox.infobip.routes import routes

__all__ = ["Infobip", "routes"]
