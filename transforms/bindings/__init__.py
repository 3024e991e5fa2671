"""Bind: which vehicle a terminal sat in at an event time, and what is known of that vehicle."""
