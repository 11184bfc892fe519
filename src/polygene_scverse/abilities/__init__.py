"""Functions behind the methods of a model; they take an engine, its fitted state and cells, and return arrays."""
