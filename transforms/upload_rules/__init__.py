"""Rules that need one upload alone: its samples in order, their values checked."""
