"""Everything that sends: Celery tasks deliver what the ledger holds to the providers, within their rate limits."""
