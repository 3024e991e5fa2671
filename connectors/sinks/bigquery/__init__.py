"""The sink BigQuery: the tables of facts in a dataset, with views of what holds now."""
