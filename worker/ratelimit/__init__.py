"""The rate limit: one limiter for each bucket over all processes, fair sharing of processes."""
