"""The backfill: a bounded job over an archive or a range of topics, on Beam or on Flink."""
