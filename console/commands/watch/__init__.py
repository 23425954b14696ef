"""`optrelay watch` and `optrelay up`: what runs by itself and brings files in."""
