"""How jobs are started."""
