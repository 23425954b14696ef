"""Files of every format: from the arguments of a command to rows of cells, and the rows that were rejected."""
