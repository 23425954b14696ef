"""The rate limit: one limiter for each bucket over all processes, permits for calls, fair sharing of processes."""
