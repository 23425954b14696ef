"""`optrelay demo`: the whole product on this machine, against the sandbox."""
