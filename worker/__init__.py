"""From the ledger to the providers: wake-ups, strokes, pacing, delivery."""
