"""One module for each provider, and the list of them."""
