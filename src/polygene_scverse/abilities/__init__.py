"""What a model can do, as plain functions of an engine, the fitted state and cells that return arrays."""
