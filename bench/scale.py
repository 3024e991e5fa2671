"""How the backfill grows: with the archive, with the bindings, with Beam's workers."""
