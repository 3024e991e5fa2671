"""Which vehicle a terminal sat in, and what is known of vehicles."""
