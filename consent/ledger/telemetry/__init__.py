"""What is told of a ledger to those who watch over it: counters that are exact over restarts, and notices."""
