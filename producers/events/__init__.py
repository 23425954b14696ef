"""Events of consent changes: whatever their source, read alike, recorded in batches and only then acknowledged."""
