"""Proxies that make real servers fail."""
