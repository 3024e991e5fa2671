"""The `odograph` command: one module a command."""
