"""The commands of optrelay.

In each folder `command.py` holds arguments and help, and loads quickly; the other files are loaded when a command runs.
"""
