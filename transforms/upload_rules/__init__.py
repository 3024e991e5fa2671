"""Rules that look at one upload alone: its samples in order, their values checked."""
