"""Real servers on this machine: `odograph stack` (docs/operations/stack.md)."""
