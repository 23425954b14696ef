"""What is to be delivered: customer tasks, their leases, and how each bucket is."""
