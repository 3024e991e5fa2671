"""Facts computed a second time, in SQL, to check the project's own by."""
