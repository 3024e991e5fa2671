"""The schema registry: writer schemas by id, and the registration of ours."""
