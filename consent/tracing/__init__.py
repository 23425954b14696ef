"""Traces: which work was done when, and what it was done for, as OpenTelemetry tells it. No person is named."""
