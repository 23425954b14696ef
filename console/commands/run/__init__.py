"""`optrelay run` and `import`: files into the ledger, and then to the providers."""
