"""How jobs get to a Flink cluster: environment, submission, entry point, what runs there."""
