"""The jobs: each is a chain of named steps, on Beam or on Flink."""
