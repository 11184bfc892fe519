"""Conversion of AnnData or files to tokens and category codes, in numpy."""
