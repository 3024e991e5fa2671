"""Writer schemas by id, and the registration of ours."""
