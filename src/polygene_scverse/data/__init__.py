"""Expression, phenotypes and batches. Importing it loads nothing heavy, because ``pp`` uses only the numpy parts."""
