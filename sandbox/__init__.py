"""The providers on this machine, for the demo and the tests: faults on demand, every invention marked INVENTED.

Each provider is a folder with the same files: `service` (its paths, which calls it admits, and what it does with them),
`requests` (what a call sends), `replies` (bodies and errors), `register` (what it holds) and `settings`.
"""
