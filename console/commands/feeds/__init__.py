"""`optrelay map`: a feed for a file that comes again."""
