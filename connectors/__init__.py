"""The outside world: archive, lake, bindings. Each connector works without an engine."""
