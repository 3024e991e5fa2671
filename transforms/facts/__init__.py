"""Facts: uploads and verdicts to telemetry rows and vehicle minutes."""
