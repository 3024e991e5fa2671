"""The operations database: vehicles, bindings, and snapshots of them."""
