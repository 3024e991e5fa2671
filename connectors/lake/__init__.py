"""The lake: facts as Parquet by event hour. Names, writing, reading, compaction, its state."""
