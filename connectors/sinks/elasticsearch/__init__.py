"""Elasticsearch as a sink: telemetry by day, and the newest state of each vehicle."""
