"""Exact bytes of device topics by arrival: names, reading, writing."""
