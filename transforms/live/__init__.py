"""Facts of a stream: first by each upload's lone verdict, then by those of all its terminal's."""
