"""Files that do not fit into memory, with the same interface as cells in memory."""
