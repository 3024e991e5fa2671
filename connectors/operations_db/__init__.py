"""The operations database (Postgres): vehicles, bindings, and snapshots of them."""
