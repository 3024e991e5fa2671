"""Postgres as a sink: the newest values of each vehicle and terminal."""
