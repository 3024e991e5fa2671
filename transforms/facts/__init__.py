"""Telemetry rows, vehicle minutes, and how their parts merge."""
