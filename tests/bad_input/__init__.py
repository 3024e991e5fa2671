"""A thousand messages no terminal should send, and what must become of each."""
