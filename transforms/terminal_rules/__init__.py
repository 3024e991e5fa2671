"""Rules that need all uploads of a terminal: duplicates, clocks, reports. They give verdicts."""
