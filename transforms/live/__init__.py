"""The facts of a stream: first by themselves, then revised as neighbours come."""
