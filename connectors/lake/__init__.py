"""Facts as Parquet by event hour: names, writing, reading, merging, state."""
