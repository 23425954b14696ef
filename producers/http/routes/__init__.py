"""The endpoints of the HTTP source, one file for each kind of request."""
