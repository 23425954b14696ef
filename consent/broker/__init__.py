"""The broker (Valkey or Redis): its address, and the wake-ups that tell the workers of due tasks."""
