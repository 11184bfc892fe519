"""Polygene."""
