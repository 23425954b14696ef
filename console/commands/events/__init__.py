"""`optrelay listen`, `serve`, `token` and `schema`: events of a queue or over HTTP into the ledger."""
