"""Rules that look at a terminal's uploads together: duplicates, clocks, reports."""
