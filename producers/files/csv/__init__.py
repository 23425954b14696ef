"""CSV as text: encodings, delimiters, physical lines, rows of cells, and cells that no spreadsheet may run."""
