"""Stores that take rows by key, one folder each, and what these sinks share."""
