"""Workbooks: one sheet becomes lines in a private file, written by a process whose memory has a limit."""
