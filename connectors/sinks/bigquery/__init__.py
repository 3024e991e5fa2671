"""BigQuery as a sink: tables of revised rows, and views of the rows that stand."""
