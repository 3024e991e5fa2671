"""The live jobs: they read device topics as they grow, on Flink."""
