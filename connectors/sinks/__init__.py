"""Stores that take rows by key, and what they share."""
