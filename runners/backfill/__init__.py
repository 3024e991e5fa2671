"""How a backfill is requested and run: by Beam on this machine, or on a Flink cluster."""
