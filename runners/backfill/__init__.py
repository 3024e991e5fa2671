"""How a backfill is asked for and run."""
