"""What people call a bucket: its connection, and what tells it from its neighbours there."""

from __future__ import annotations

from consent.change import Bucket
from consent.settings import Settings
from console.pace import limit_of


def spoken_name(settings: Settings, bucket: Bucket) -> str:
    """Return a bucket's name for people, like "capillary", "gupshup (app 42)" or "infobip (blocklist)"."""
    connection = settings.connections.get(bucket.connection)
    part = bucket.name if connection is None else limit_of(connection, bucket.name).name
    return f"{bucket.connection} ({part})" if part else bucket.connection
