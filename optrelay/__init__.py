"""The command under the name of the project: `python -m optrelay` is `optrelay`."""
