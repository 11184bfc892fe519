"""What a model can be asked, as plain functions of an engine, the fitted state and cells: arrays out."""
