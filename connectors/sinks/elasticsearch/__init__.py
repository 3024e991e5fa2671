"""Elasticsearch as a store of facts: telemetry by the day, and the newest state of each vehicle."""
