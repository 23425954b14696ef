"""From the ledger to the providers: wake-ups, deliveries, pacing, delivery."""
