"""`optrelay rejected-events`: events that could not be understood."""
