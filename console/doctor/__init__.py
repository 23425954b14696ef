"""`optrelay doctor`: whether everything that optrelay needs is there and well."""
