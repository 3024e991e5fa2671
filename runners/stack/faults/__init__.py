"""Proxies before real servers: they refuse, delay, slow, cut or lose requests by rule."""
