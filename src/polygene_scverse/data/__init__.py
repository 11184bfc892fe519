"""Arrays in, arrays out. Nothing heavy is imported here: ``pp`` reaches only the numpy parts."""
