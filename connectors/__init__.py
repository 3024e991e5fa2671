"""The outside world: Kafka, registry, Postgres, object stores, archive, lake, sinks. No engine."""
