"""The sink of the newest of each vehicle and terminal in Postgres."""
