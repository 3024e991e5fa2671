"""Pinned programs that are fetched once: the Java runtime, and servers of the stack."""
