"""The jobs: one file a job, and the steps they are made of."""
