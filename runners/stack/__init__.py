"""The local stack of real servers: `odograph stack` (docs/adr/0007)."""
