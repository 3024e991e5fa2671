"""The jobs that read device topics as they grow."""
