"""Files that do not fit into memory, behind the same interface as cells in memory."""
