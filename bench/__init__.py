"""Side-by-side measurements: `python -m bench` writes the tables of bench/README.md."""
