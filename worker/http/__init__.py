"""The HTTP client of the worker: one client for each connection, which knows no provider by name."""
