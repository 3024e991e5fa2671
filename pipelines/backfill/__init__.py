"""The bounded job over an archive or a range of topics, on Beam or Flink."""
