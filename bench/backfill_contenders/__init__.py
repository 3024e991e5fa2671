"""What a backfill does, done in other ways: each contender runs in a process of its own."""
