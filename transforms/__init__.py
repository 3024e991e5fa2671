"""The facts: pure functions on Arrow batches. No engine, no network, no wall clock."""
