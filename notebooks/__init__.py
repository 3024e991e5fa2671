"""Notebooks for analysts, and `python -m notebooks.render`, which turns one into a page."""
